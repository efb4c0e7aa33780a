// The size gate: what a visitor downloads, as a host that compresses sends it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { DIST, MODELS, catalogue } from "./material.js";

const MODULES = [
  { name: "page", files: ["magnet-viewer.js", "magnet-page.js", "magnet-page_bg.wasm"], limit: 250_000 },
  { name: "engine", files: ["engine-worker.js", "magnet-engine.js", "magnet-engine_bg.wasm"], limit: 4_000_000 },
];
const MODELS_LIMIT = 25_000_000;
const kilobytes = (bytes) => `${(bytes / 1000).toFixed(1).padStart(9)} kB`;

test("both modules and the models are small enough", () => {
  const lines = [];
  const excess = [];
  for (const { name, files, limit } of MODULES) {
    let total = 0;
    for (const file of files) {
      const bytes = readFileSync(join(DIST, file));
      const packed = gzipSync(bytes, { level: 9 }).length;
      total += packed;
      lines.push(`    ${file.padEnd(24)}${kilobytes(bytes.length)}  gzip ${kilobytes(packed)}`);
    }
    lines.push(`    ${name.padEnd(24)}             gzip ${kilobytes(total)}  limit ${kilobytes(limit)}`);
    if (total > limit) excess.push(`${name}: ${total} bytes, ${limit} allowed`);
  }
  const models = catalogue().models.reduce((sum, { file }) => sum + readFileSync(join(MODELS, file)).length, 0);
  lines.push(`    ${"models".padEnd(24)}${kilobytes(models)}                   limit ${kilobytes(MODELS_LIMIT)}`);
  if (models > MODELS_LIMIT) excess.push(`models: ${models} bytes, ${MODELS_LIMIT} allowed`);
  console.log(lines.join("\n"));
  assert.deepEqual(excess, []);
});
