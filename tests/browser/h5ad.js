// AnnData files, read by the HDF Group's own tools where they are installed.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const SIGNATURE = Buffer.from([0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a]);

/** Objects of a file and its matrix X, as h5ls and h5dump see them. */
function read(path) {
  const objects = execFileSync("h5ls", ["-r", path], { encoding: "utf8" }).trim().split("\n");
  const raw = `${path}.X`;
  execFileSync("h5dump", ["-d", "/X", "-b", "LE", "-o", raw, path], { stdio: "ignore" });
  const bytes = readFileSync(raw);
  return { objects, x: new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4) };
}

/** The file that the page made has the objects of the one that the command line made, and the same X to 1e-3. */
export function assertSameAnnData(bytes, expectedPath) {
  assert.ok(bytes.subarray(0, 8).equals(SIGNATURE), "an HDF5 file");
  if (spawnSync("h5dump", ["--version"]).error) {
    console.log("    no h5dump here: of the .h5ad only the signature was checked");
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), "magnet-h5ad-"));
  try {
    const [found, expected] = [join(folder, "found.h5ad"), join(folder, "expected.h5ad")];
    writeFileSync(found, bytes);
    writeFileSync(expected, readFileSync(expectedPath));
    const [a, b] = [read(found), read(expected)];
    assert.deepEqual(a.objects, b.objects);
    assert.equal(a.x.length, b.x.length);
    const far = a.x.findIndex((value, index) => !(Math.abs(value - b.x[index]) <= 1e-3 * Math.max(Math.abs(b.x[index]), 0.05)));
    assert.equal(far, -1, `X[${far}]: ${a.x[far]} and ${b.x[far]}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
