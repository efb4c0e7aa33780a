// The same tile and model give the same map wherever they run, whatever happens on the way.
import assert from "node:assert/strict";
import { test } from "node:test";
import { UM_PER_PX } from "./material.js";
import { screenshot, shared, withPage } from "./shared.js";
import { compare } from "./viewer.js";

const RELATIVE = 1e-3;
const PEARSON = 0.9999;

/** Maps that later tests compare with. */
const maps = {};

async function assertSame(name, found, expected) {
  const { relative, pearson } = compare(found, expected);
  console.log(`    ${name}: largest relative difference ${relative.toExponential(1)}, lowest Pearson ${pearson.toFixed(7)}`);
  assert.ok(relative <= RELATIVE, `${name}: relative difference ${relative}, at most ${RELATIVE} allowed`);
  assert.ok(pearson >= PEARSON, `${name}: Pearson ${pearson}, at least ${PEARSON} required`);
}

test("no adapter: the automatic choice is the CPU, says why, and equals the command line at every level", () =>
  withPage({ variant: "auto" }, async (viewer, { page, material }) => {
    assert.match(await viewer.ready(), /CPU/);
    assert.match(await viewer.device.textContent(), /no graphics adapter|no WebGPU/i);
    await viewer.open(material.tile, UM_PER_PX);
    assert.match(await viewer.finished(), /complete/);
    for (const level of ["Bin", "Spot", "Region"]) {
      await viewer.level(level);
      const table = await viewer.table();
      await assertSame(`CPU in the browser, ${level}`, table, material.native(level.toLowerCase()).table);
    }
    await screenshot(page, "cpu-region");
  }));

test("a software adapter is not what the automatic choice takes", () =>
  withPage({ variant: "auto", webgpu: true }, async (viewer) => {
    const device = await viewer.ready();
    assert.match(device, /CPU/);
    assert.match(device, /software/i);
  }));

test("the automatic choice takes an adapter that is a GPU", () =>
  withPage({ variant: "hardware", webgpu: true }, async (viewer) => {
    assert.match(await viewer.ready(), /GPU.*Workbench/s);
  }));

test("WebGPU on the software adapter equals the command line and the CPU in the browser", () =>
  withPage({ variant: "gpu", webgpu: true }, async (viewer, { page, material }) => {
    assert.match(await viewer.ready(), /GPU/);
    await viewer.open(material.small, UM_PER_PX);
    const said = await viewer.finished(180_000);
    assert.match(said, /complete/);
    console.log(`    ${said}`);
    maps.gpu = await viewer.table();
    await screenshot(page, "webgpu");
    await assertSame("WebGPU and the command line", maps.gpu, material.native("bin", material.small).table);

    await viewer.scope.getByLabel("Device", { exact: true }).selectOption("cpu");
    await viewer.device.filter({ hasText: /CPU/ }).waitFor();
    await viewer.button("Predict").click();
    await page.locator("magnet-viewer[data-state=done]").waitFor({ timeout: 120_000 });
    await assertSame("WebGPU and the CPU in the browser", maps.gpu, await viewer.table());
  }));

test("an adapter without timestamp-query is not used, and the page says so", () =>
  withPage({ variant: "no-timestamp-query", webgpu: true }, async (viewer) => {
    const device = await viewer.ready();
    assert.match(device, /CPU/);
    assert.match(device, /timestamp/i);
  }));

test("a lost device: the run goes on without a reload, and the map is the same", () =>
  withPage({ variant: "lost-once", webgpu: true, faults: [/./] }, async (viewer, { page, material }) => {
    await viewer.ready();
    await page.evaluate(() => { window.notReloaded = true; });
    await viewer.open(material.small, UM_PER_PX);
    assert.match(await viewer.finished(240_000), /complete/);
    await viewer.scope.getByText(/lost/i).first().waitFor();
    assert.equal(await page.evaluate(() => window.notReloaded), true);
    assert.match(await viewer.device.textContent(), /GPU/);
    await screenshot(page, "lost-device");
    await assertSame("after a lost device", await viewer.table(), maps.gpu ?? material.native("bin", material.small).table);
  }));

test("a device that is lost again: the CPU finishes the run", () =>
  withPage({ variant: "lost-again", webgpu: true, faults: [/./] }, async (viewer, { material }) => {
    await viewer.ready();
    await viewer.open(material.small, UM_PER_PX);
    assert.match(await viewer.finished(240_000), /complete/);
    assert.match(await viewer.device.textContent(), /CPU/);
    await assertSame("after two lost devices", await viewer.table(), material.native("bin", material.small).table);
  }));

test("an engine that dies in the middle of a run is replaced, and the map is the same", () =>
  withPage({ variant: "dies-once", faults: [/./] }, async (viewer, { material }) => {
    await viewer.ready();
    await viewer.open(material.tile, UM_PER_PX);
    assert.match(await viewer.finished(), /complete/);
    await assertSame("after a dead engine", await viewer.table(), material.native("bin").table);
  }));

test("cancel answers within 300 ms and keeps the partial map, marked as partial", () =>
  withPage({}, async (viewer, { page, material }) => {
    await viewer.ready();
    await viewer.button("Try the sample").click();
    await page.waitForFunction(
      (bar) => Number(bar.getAttribute("aria-valuenow")) > 0.2 * Number(bar.getAttribute("aria-valuemax")),
      await viewer.progress.elementHandle({ timeout: 60_000 }),
    );
    await screenshot(page, "running");
    // Measured in the page: from the click to the first frame in which Cancel cannot be pressed any more.
    const acknowledged = await viewer.button("Cancel").evaluate(async (button) => {
      const began = performance.now();
      button.click();
      while (button.isConnected && !button.disabled && button.checkVisibility()) await new Promise(requestAnimationFrame);
      return performance.now() - began;
    });
    const began = Date.now();
    assert.match(await viewer.finished(), /partial/i);
    console.log(`    acknowledged in ${acknowledged.toFixed(0)} ms, ended after ${Date.now() - began} ms more`);
    assert.ok(acknowledged < 300, `Cancel took ${acknowledged} ms, at most 300 allowed`);
    await screenshot(page, "partial");
    const table = await viewer.table();
    const missing = table.values[0].filter(Number.isNaN).length;
    assert.ok(missing > 0 && missing < table.values[0].length, `${missing} of ${table.values[0].length} values are missing`);
    const provenance = JSON.parse((await viewer.export("Provenance")).bytes.toString("utf8"));
    assert.match(JSON.stringify(provenance), /"complete":false/);
    // The partial map is not lost: the run goes on from it.
    await viewer.button("Predict").click();
    await viewer.result.filter({ hasText: /complete/i }).waitFor({ timeout: 120_000 });
  }));
