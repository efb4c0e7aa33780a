// What the tests put into the page, made anew in each run: a tile cut from the sample, wrong files, and the maps that
// the command line predicts for the same tile and model.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { claimingPng, encodePng } from "./png.js";
import { SparseSlide } from "./slide-file.js";
import { parseCsv } from "./viewer.js";

const here = dirname(fileURLToPath(import.meta.url));
export const ROOT = resolve(here, "../..");
export const DIST = process.env.MAGNET_DIST ?? join(ROOT, "dist");
export const OUTPUT = join(here, "output");
export const MODELS = join(DIST, "models");

/** µm per pixel of the tile, which its file does not say. */
export const UM_PER_PX = 0.5;
/** A tile for software adapters, which need a second for each bin. */
const SMALL_PX = 288;
const TILE_PX = 544; // 17 × 17 bins of the model on synthetic tissue: just more than a block

export const catalogue = () => JSON.parse(readFileSync(join(MODELS, "catalogue.json"), "utf8"));

/** The model on synthetic tissue, which is small: the one that the tests run. */
export const model = () => catalogue().models.find(({ id }) => id === "synthetic");

const native = () => {
  const target = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");
  const path = process.env.MAGNET_NATIVE ?? join(target, "release", "magnet-native");
  if (!existsSync(path)) throw new Error(`no ${path}: cargo build --release -p magnet-native`);
  return path;
};

/** Writes all files; `page` is any page of a browser, which decodes the sample. */
export async function prepare(page) {
  rmSync(OUTPUT, { recursive: true, force: true });
  mkdirSync(join(OUTPUT, "files"), { recursive: true });
  const file = (name, bytes) => {
    const path = join(OUTPUT, "files", name);
    writeFileSync(path, bytes);
    return path;
  };
  const { file: bundleName, sample } = model();
  const sampleBytes = readFileSync(join(MODELS, sample.file));
  const bundle = join(MODELS, bundleName);
  const bundleBytes = readFileSync(bundle);
  const tileBytes = await crop(page, sampleBytes, TILE_PX);
  const tile = file("tile.png", tileBytes);
  const slide = new SparseSlide({
    tissue: await rgbOf(page, await crop(page, sampleBytes, 1024)),
    isTissue: (column, row) => ((column - 5.5) / 4) ** 2 + ((row - 4.5) / 3.5) ** 2 < 1,
    umPerPx: 1, // what the model needs, so that regions are read as they are
  });
  const slidePath = slide.write(join(OUTPUT, "files", "slide.tif"));
  const small = file("small.png", await crop(page, sampleBytes, SMALL_PX));
  return {
    bundle,
    tile,
    small,
    slide,
    slidePath,
    /** A part of the slide as an image of its own. */
    slidePart: (left, top, width, height) =>
      file(`part-${left}-${top}.png`, encodePng(width, height, slide.pixels(left, top, width, height))),
    /** A slide of JPEG tiles, and its like from other programs in JPEG 2000. */
    jpegSlide,
    jpeg2000Slides: ["aperio_33003.svs", "aperio_33005.svs"].map((name) =>
      join(ROOT, "tests/fixtures/slides", name),
    ),
    nativeSlide: (image) => predictNatively(bundle, image, "bin").table,
    jpegTile: file("tile.jpg", await crop(page, sampleBytes, TILE_PX, "image/jpeg")),
    large: file("large.png", await placedTile(page, tileBytes, 10_000)),
    wrong: {
      text: file("text.png", "This is a text file.\n"),
      truncated: file("truncated.jpg", sampleBytes.subarray(0, Math.floor(sampleBytes.length / 3))),
      huge: file("huge.png", claimingPng(65_535)),
      version: file("version.safetensors", otherVersion(bundleBytes)),
      damaged: file("damaged.safetensors", bundleBytes.subarray(0, Math.floor(bundleBytes.length / 2))),
    },
    native: (level, image = tile, umPerPx = UM_PER_PX) => predictNatively(bundle, image, level, umPerPx),
  };
}

async function crop(page, bytes, side, type = "image/png") {
  const made = await page.evaluate(
    async ([base64, size, mediaType]) => {
      const binary = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
      const whole = await createImageBitmap(new Blob([binary]));
      const canvas = new OffscreenCanvas(size, size);
      canvas.getContext("2d").drawImage(whole, -Math.floor((whole.width - size) / 2), -Math.floor((whole.height - size) / 2));
      const blob = await canvas.convertToBlob({ type: mediaType, quality: 0.9 });
      return new Promise((done) => {
        const reader = new FileReader();
        reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
        reader.readAsDataURL(blob);
      });
    },
    [bytes.toString("base64"), side, type],
  );
  return Buffer.from(made, "base64");
}

/** RGB values of an image. */
async function rgbOf(page, bytes) {
  const rgba = await page.evaluate(async (base64) => {
    const binary = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const image = await createImageBitmap(new Blob([binary]));
    const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, image.width, image.height);
    let text = "";
    for (let at = 0; at < data.length; at += 32_768) text += String.fromCharCode(...data.subarray(at, at + 32_768));
    return btoa(text);
  }, bytes.toString("base64"));
  const values = Buffer.from(rgba, "base64");
  const rgb = Buffer.alloc((values.length / 4) * 3);
  for (let pixel = 0; pixel < values.length / 4; pixel += 1) values.copy(rgb, 3 * pixel, 4 * pixel, 4 * pixel + 3);
  return rgb;
}

/** The tile in the middle of a white image. */
async function placedTile(page, tileBytes, side) {
  const values = await rgbOf(page, tileBytes);
  const rgb = Buffer.alloc(side * side * 3, 0xf5);
  const start = (side - TILE_PX) / 2;
  for (let row = 0; row < TILE_PX; row += 1) {
    const from = 3 * row * TILE_PX;
    values.copy(rgb, 3 * ((start + row) * side + start), from, from + 3 * TILE_PX);
  }
  return encodePng(side, side, rgb);
}

/** The bundle with another number in place of its format version. */
function otherVersion(bundle) {
  const length = Number(bundle.readBigUInt64LE(0));
  const head = JSON.parse(bundle.subarray(8, 8 + length).toString("utf8"));
  const changed = head.__metadata__.magnet.replace(/"format_version":\d+/, '"format_version":9999');
  if (changed === head.__metadata__.magnet) throw new Error("the bundle's metadata holds no format version");
  head.__metadata__.magnet = changed;
  const text = Buffer.from(JSON.stringify(head));
  const padded = Buffer.concat([text, Buffer.alloc((8 - (text.length % 8)) % 8, " ")]);
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([size, padded, bundle.subarray(8 + length)]);
}

/** A slide that the command line draws, once. */
function jpegSlide() {
  const folder = join(OUTPUT, "drawn");
  const path = join(OUTPUT, "files", "jpeg.tif");
  if (!existsSync(path)) {
    const words = ["--whole-slide", "1536x1280", "--size-um", "400", "--quiet"];
    execFileSync(native(), ["synthesize", "--out", folder, ...words], { stdio: ["ignore", "ignore", "inherit"] });
    renameSync(join(folder, "whole_slide.tif"), path);
  }
  return path;
}

const predicted = new Map();
/** What `magnet-native predict` writes for an image at a level: the table, and the folder of its files. */
function predictNatively(bundle, image, level, umPerPx) {
  const name = `native-${basename(image, ".png")}-${level}`;
  if (!predicted.has(name)) {
    const folder = join(OUTPUT, name);
    const words = ["predict", "--model", bundle, "--image", image, "--level", level];
    if (umPerPx) words.push("--mpp", String(umPerPx));
    execFileSync(native(), [...words, "--out", folder, "--device", "cpu", "--quiet"], { stdio: ["ignore", "ignore", "inherit"] });
    predicted.set(name, { folder, table: parseCsv(readFileSync(join(folder, "predictions.csv"), "utf8")) });
  }
  return predicted.get(name);
}
