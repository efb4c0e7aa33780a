// The size gate: what a visitor downloads, as a host that compresses sends it.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { DIST, MODELS, catalogue } from "./material.js";

const MODULES = [
  { name: "page", files: ["magnet-viewer.js", "magnet-page.js", "magnet-page_bg.wasm"], limit: 250_000 },
  { name: "slide reader", files: ["slide-worker.js", "magnet-slide.js", "magnet-slide_bg.wasm"], limit: 400_000 },
  { name: "engine", files: ["engine-worker.js", "magnet-engine.js", "magnet-engine_bg.wasm"], limit: 4_000_000 },
];
const MODELS_LIMIT = 25_000_000;
/** Size as `gzip -9` packs it; the zlib inside node packs a module of this size 1 % worse. */
const packedSize = (path) => execFileSync("gzip", ["-9", "-c", path], { maxBuffer: 1 << 26 }).length;
const kilobytes = (bytes) => `${(bytes / 1000).toFixed(1).padStart(9)} kB`;

test("the modules and the models are small enough", () => {
  const lines = [];
  const excess = [];
  for (const { name, files, limit } of MODULES) {
    let total = 0;
    for (const file of files) {
      const size = statSync(join(DIST, file)).size;
      const packed = packedSize(join(DIST, file));
      total += packed;
      lines.push(`    ${file.padEnd(24)}${kilobytes(size)}  gzip ${kilobytes(packed)}`);
    }
    lines.push(`    ${name.padEnd(24)}             gzip ${kilobytes(total)}  limit ${kilobytes(limit)}`);
    if (total > limit) excess.push(`${name}: ${total} bytes, ${limit} allowed`);
  }
  const models = catalogue().models.reduce((sum, { file }) => sum + statSync(join(MODELS, file)).size, 0);
  lines.push(`    ${"models".padEnd(24)}${kilobytes(models)}                   limit ${kilobytes(MODELS_LIMIT)}`);
  if (models > MODELS_LIMIT) excess.push(`models: ${models} bytes, ${MODELS_LIMIT} allowed`);
  console.log(lines.join("\n"));
  assert.deepEqual(excess, []);
});
