// Slides of several gigabytes: looked at, cut, predicted, without ever being read as a whole.
import assert from "node:assert/strict";
import { closeSync, ftruncateSync, openSync, readSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { assertAccessible } from "./accessible.js";
import { OUTPUT, UM_PER_PX } from "./material.js";
import { screenshot, shared, withPage } from "./shared.js";
import { compare, medianPearson, rowsOf } from "./viewer.js";

/** A part of the slide in its tissue. */
const REGION = { x: 40_000, y: 36_000, width: 560, height: 528 };

async function openSlide(viewer, { slidePath }) {
  await viewer.scope.getByLabel("Image file").setInputFiles(slidePath);
  await viewer.button("Choose region").waitFor({ timeout: 10_000 });
}

/** Sets the region by numbers; they are in µm, which are pixels here. */
async function fill(viewer, { x, y, width, height }) {
  if (!(await viewer.button("Done choosing").isVisible())) await viewer.button("Choose region").click();
  for (const [name, value] of Object.entries({ X: x, Y: y, Width: width, Height: height })) {
    const field = viewer.scope.getByRole("textbox", { name, exact: true });
    await field.fill(String(value));
    await field.press("Enter");
  }
  await viewer.button("Done choosing").click();
}

const facts = (viewer) => viewer.scope.getByRole("status", { name: "Region" });
const settled = (page) => page.locator(".app:not([data-loading-tiles])").waitFor();

test("a slide of 5 GB opens at once, and a region of it gives the same map as its pixels alone", () =>
  withPage({ variant: "counts-bytes" }, async (viewer, { page, context, server, material }) => {
    await viewer.ready();
    await page.evaluate(() => {
      new BroadcastChannel("bytes-read").onmessage = ({ data }) => (window.bytesRead = data);
    });
    await page.waitForTimeout(1000);
    const [asked, answered] = [page.requests.length, server.log.length];
    await context.setOffline(true);
    const began = Date.now();
    await openSlide(viewer, material);
    const opened = Date.now() - began;
    await page.waitForTimeout(500);
    const first = await page.evaluate(() => window.bytesRead);
    console.log(`    ${(material.slide.bytes / 1e9).toFixed(1)} GB open in ${opened} ms, ${(first / 1e6).toFixed(2)} MB read`);
    assert.ok(opened < 5000, `${opened} ms`);
    assert.ok(first < 8e6, `${first} bytes read`);
    await screenshot(page, "slide");

    // Deep into the slide with the wheel.
    const box = await viewer.scope.locator(".map").first().boundingBox();
    await page.mouse.move(box.x + box.width * 0.4, box.y + box.height * 0.45);
    for (let turn = 0; turn < 10; turn += 1) await page.mouse.wheel(0, -350);
    await settled(page);
    await screenshot(page, "slide-deep");

    await fill(viewer, REGION);
    assert.match(await facts(viewer).textContent(), /0\.56 × 0\.53 mm · about [\d,]+ bins on tissue/);
    await viewer.button("Predict region").click();
    assert.match(await viewer.finished(), /complete/);
    await screenshot(page, "slide-region");

    const found = await viewer.table();
    const alone = material.slidePart(REGION.x, REGION.y, REGION.width, REGION.height);
    const expected = material.native("bin", alone, 1).table;
    const { relative, pearson } = compare(found, expected);
    console.log(`    region against its pixels alone: relative ${relative.toExponential(1)}, Pearson ${pearson.toFixed(7)}`);
    assert.ok(relative <= 1e-3 && pearson >= 0.9999);
    for (const [row, [x, y]] of found.places.entries()) {
      const [xAlone, yAlone] = expected.places[row];
      assert.deepEqual([x, y], [xAlone + REGION.x, yAlone + REGION.y]);
    }
    const provenance = JSON.parse((await viewer.export("Provenance")).bytes.toString("utf8"));
    assert.equal(provenance.region_left_px, REGION.x);
    assert.equal(provenance.region_height_px, REGION.height);
    assert.equal(provenance.slide_bytes, material.slide.bytes);
    assert.equal(provenance.slide_file, "slide.tif");
    assert.match(provenance.region_rgb_sha256, /^[0-9a-f]{64}$/);
    assert.equal(provenance.image_sha256, undefined);
    const geojson = JSON.parse((await viewer.export("GeoJSON")).bytes.toString("utf8"));
    const [[x, y]] = geojson.features[0].geometry.coordinates[0];
    assert.ok(x >= REGION.x && x < REGION.x + REGION.width && y >= REGION.y && y < REGION.y + REGION.height);
    const overlay = await viewer.export("Overlay PNG");
    assert.match(overlay.name, /^slide_x40000_y36000_w560_h528_bin_/);

    const all = await page.evaluate(() => window.bytesRead);
    console.log(`    ${(all / 1e6).toFixed(2)} MB read in all`);
    assert.ok(all < 60e6, `${all} bytes read`);
    assert.deepEqual(page.requests.slice(asked).filter((url) => !/^(blob|data):/.test(url)), []);
    assert.deepEqual(server.log.slice(answered), []);
    await context.setOffline(false);
    await assertAccessible(page, "a slide with a map");
  }));

test("slides as scanners write them, in JPEG and JPEG 2000, give the maps of the command line", () =>
  withPage({}, async (viewer, { material }) => {
    await viewer.ready();
    for (const slide of [material.jpegSlide(), ...material.jpeg2000Slides]) {
      const name = basename(slide);
      await viewer.scope.getByLabel("Image file").setInputFiles(slide);
      await viewer.scope.getByText(name).first().waitFor();
      await viewer.button("Take the view").click();
      await viewer.button("Predict region").click();
      assert.match(await viewer.finished(), /complete/);
      // The page reads all from the level that the model's finest tiles need, the command line wide tiles from coarser
      // levels, which scanners (and this slide) compress anew; a bin at the tissue's border may go either way.
      const [found, expected] = [await viewer.table(), material.nativeSlide(slide)];
      const shared = found.names.filter((row) => expected.names.includes(row));
      assert.ok(shared.length >= 0.99 * Math.max(found.names.length, expected.names.length), `${shared.length} in common`);
      const pearson = medianPearson(rowsOf(found, shared), rowsOf(expected, shared));
      console.log(`    ${name}: ${shared.length} bins, median Pearson of the genes ${pearson.toFixed(4)}`);
      assert.ok(pearson >= 0.97, name);
    }
  }));

test("a region by fingers: dragged, moved, and the view pinched", () =>
  withPage({ hasTouch: true, viewport: { width: 820, height: 1180 } }, async (viewer, { page, context, material }) => {
    await viewer.ready();
    await openSlide(viewer, material);
    const fingers = await context.newCDPSession(page);
    const box = await viewer.scope.locator(".map").first().boundingBox();
    const at = (x, y) => ({ x: box.x + box.width * x, y: box.y + box.height * y });
    const touch = (type, ...points) =>
      fingers.send("Input.dispatchTouchEvent", { type, touchPoints: points.map((point, id) => ({ ...point, id })) });
    /** Moves fingers from places to places. */
    const glide = async (from, to) => {
      await touch("touchStart", ...from);
      for (let step = 1; step <= 8; step += 1) {
        const between = from.map((start, finger) => ({
          x: start.x + ((to[finger].x - start.x) * step) / 8,
          y: start.y + ((to[finger].y - start.y) * step) / 8,
        }));
        await touch("touchMove", ...between);
      }
      await touch("touchEnd");
    };
    await page.evaluate(() => {
      window.regions = [];
      document.querySelector("magnet-viewer").addEventListener("regionchange", ({ detail }) => window.regions.push(detail));
    });
    const region = async () => (await page.evaluate(() => window.regions)).at(-1);

    // Two fingers that part enlarge the view, outside of choosing a region and within it.
    const scale = viewer.scope.locator(".scale").first();
    const before = await scale.textContent();
    await glide([at(0.45, 0.5), at(0.55, 0.5)], [at(0.2, 0.5), at(0.8, 0.5)]);
    await scale.filter({ hasNotText: before }).waitFor();

    await viewer.button("Choose region").click();
    const first = await region();
    // A finger on a corner makes it smaller; a finger inside carries it on.
    await glide([at(0.5, 0.5)], [at(0.6, 0.55)]);
    const moved = await region();
    assert.ok(moved.x > first.x && moved.y > first.y && moved.width === first.width, JSON.stringify([first, moved]));
    await screenshot(page, "slide-fingers");
  }));

test("a region by dragging and by keyboard, and one that is too large is cut", () =>
  withPage({}, async (viewer, { page, material }) => {
    await viewer.ready();
    await openSlide(viewer, material);
    await page.evaluate(() => {
      window.regions = [];
      document.querySelector("magnet-viewer").addEventListener("regionchange", ({ detail }) => window.regions.push(detail));
    });
    await viewer.button("Choose region").click();
    // The first region is half of the view, as far as a tab can hold it.
    const map = viewer.scope.locator(".map").first();
    const box = await map.boundingBox();
    await page.mouse.move(box.x + box.width * 0.4, box.y + box.height * 0.35);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.6, box.y + box.height * 0.7, { steps: 6 });
    await page.mouse.up();
    await facts(viewer).filter({ hasText: "a browser tab holds 150" }).waitFor();
    await screenshot(page, "slide-too-large");
    await viewer.button("Predict region").click();
    await viewer.alert.filter({ hasText: /megapixels; a browser tab holds 150/ }).waitFor();
    await viewer.button("Largest that fits").click();
    await facts(viewer).filter({ hasText: /bins on tissue/ }).waitFor();
    const { width, height } = (await page.evaluate(() => window.regions)).at(-1);
    assert.ok(width * height <= 150e6 && width * height > 149e6, `${width} × ${height}`);

    // By keyboard: moved, made smaller, given up.
    await map.focus();
    const before = (await page.evaluate(() => window.regions)).at(-1);
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Shift+ArrowUp");
    const after = (await page.evaluate(() => window.regions)).at(-1);
    assert.ok(after.x > before.x && after.height < before.height && after.width === before.width);
    await page.keyboard.press("Escape");
    await viewer.button("Choose region").waitFor();

    await fill(viewer, { ...REGION, width: 160, height: 128 });
    await viewer.button("Choose region").click();
    await page.keyboard.press("Enter");
    assert.match(await viewer.finished(), /complete: 80 bins/);
    await assertAccessible(page, "choosing a region");
  }));

test("a lost engine reads the region anew and goes on to the same map", () =>
  withPage({ variant: "dies-once", faults: [/unreachable|RuntimeError/] }, async (viewer, { material }) => {
    await viewer.ready();
    await openSlide(viewer, material);
    await fill(viewer, REGION);
    await viewer.button("Predict region").click();
    assert.match(await viewer.finished(), /complete/);
    await viewer.scope.getByText(/continu/i).first().waitFor();
    const alone = material.slidePart(REGION.x, REGION.y, REGION.width, REGION.height);
    const { relative } = compare(await viewer.table(), material.native("bin", alone, 1).table);
    assert.ok(relative <= 1e-3);
  }));

test("a slide reader that dies is started again, and says so", () =>
  withPage({ variant: "slide-dies", faults: [/unreachable|RuntimeError/] }, async (viewer, { page, material }) => {
    await viewer.ready();
    await openSlide(viewer, material);
    const box = await viewer.scope.locator(".map").first().boundingBox();
    await page.mouse.move(box.x + box.width * 0.4, box.y + box.height * 0.45);
    for (let turn = 0; turn < 8; turn += 1) await page.mouse.wheel(0, -350);
    await viewer.scope.getByText(/slide reader ended unexpectedly and was started again/).first().waitFor();
    assert.equal(await viewer.scope.getByText("slide.tif").first().isVisible(), true);
  }));

test("a slide at an address is read by ranges, and the region of an attribute is predicted", async () => {
  const { server, material } = await shared();
  server.slides["cpu/far.tif"] = material.slidePath;
  server.slides["far.tif"] = material.slidePath;
  await withPage({}, async (viewer, { page }) => {
    await viewer.ready();
    const before = server.log.length;
    const result = await page.evaluate(async ({ x, y, width, height }) => {
      const element = document.querySelector("magnet-viewer");
      const done = new Promise((resolve) => element.addEventListener("result", ({ detail }) => resolve(detail), { once: true }));
      element.setAttribute("region", `${x},${y},${width},${height}`);
      const image = await element.open("far.tif");
      return { image, result: await done };
    }, REGION);
    assert.equal(result.image.widthPx, material.slide.width);
    assert.equal(result.result.complete, true);
    assert.equal(result.result.image, null);
    const asked = server.log.slice(before).filter(({ file }) => file === "far.tif");
    const bytes = asked.reduce((sum, entry) => sum + (entry.bytes ?? 0), 0);
    console.log(`    ${asked.length} requests, ${(bytes / 1e6).toFixed(2)} MB of ${(material.slide.bytes / 1e9).toFixed(1)} GB`);
    assert.ok(asked.every(({ status }) => status === 206) && bytes < 30e6);
  });
});

test("damaged slides are refused in words, and what was open stays", () =>
  withPage({}, async (viewer, { page, material }) => {
    await viewer.ready();
    await viewer.open(material.small, UM_PER_PX);
    await viewer.finished();
    const { values } = await viewer.table();

    const cut = join(OUTPUT, "files", "cut.tif");
    const beginning = Buffer.alloc(16);
    readSync(openSync(material.slidePath), beginning, 0, 16, 0);
    writeFileSync(cut, beginning);
    truncateSync(cut, 1e9); // the directories are gone, a hole is left
    await viewer.scope.getByLabel("Image file").setInputFiles(cut);
    const alert = viewer.alert.filter({ hasText: "cut.tif" });
    await alert.waitFor({ timeout: 20_000 });
    console.log(`    ${(await alert.textContent()).trim()}`);

    const loop = join(OUTPUT, "files", "loop.tif");
    const file = openSync(loop, "w");
    const bytes = Buffer.alloc(64);
    bytes.write("II", 0, "latin1");
    bytes.writeUInt16LE(43, 2);
    bytes.writeUInt16LE(8, 4);
    bytes.writeBigUInt64LE(16n, 8); // the directory is empty and follows itself
    bytes.writeBigUInt64LE(0n, 16);
    bytes.writeBigUInt64LE(16n, 24);
    writeSync(file, bytes);
    ftruncateSync(file, 3e9);
    closeSync(file);
    await viewer.scope.getByLabel("Image file").setInputFiles(loop);
    const second = viewer.alert.filter({ hasText: "loop.tif" });
    await second.waitFor({ timeout: 20_000 });
    console.log(`    ${(await second.textContent()).trim()}`);

    await viewer.scope.getByLabel("Image file").setInputFiles(material.wrong.truncated);
    await viewer.alert.filter({ hasText: "truncated.jpg" }).waitFor();
    await viewer.scope.getByText(/Map complete/).waitFor();
    assert.deepEqual((await viewer.table()).values, values);
    await screenshot(page, "map-kept");
  }));

for (const [name, options] of [
  ["dark", { colorScheme: "dark" }],
  ["phone", { viewport: { width: 390, height: 844 } }],
]) {
  test(`a slide, ${name}`, () =>
    withPage(options, async (viewer, { page, material }) => {
      await viewer.ready();
      await openSlide(viewer, material);
      await fill(viewer, { ...REGION, width: 400, height: 320 });
      await viewer.button("Predict region").click();
      await viewer.finished();
      await viewer.button("Choose region").click();
      await settled(page);
      await screenshot(page, `slide-${name}`, { fullPage: name === "phone" });
      const width = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(width <= 0, `${width} px too wide`);
      await assertAccessible(page, name);
    }));
}
