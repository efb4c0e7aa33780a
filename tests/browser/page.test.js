// The page as people use it: with the network cut, by keyboard alone, on a phone, read by a screen reader.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { assertAccessible } from "./accessible.js";
import { UM_PER_PX, model } from "./material.js";
import { screenshot, withPage } from "./shared.js";

/** The page has a strict policy and nothing inline that it would block. */
async function assertStrictPolicy(page) {
  const policy = await page.locator('meta[http-equiv="Content-Security-Policy"]').getAttribute("content");
  const rules = Object.fromEntries(policy.split(";").map((rule) => rule.trim().split(/\s+(.*)/)));
  assert.equal(rules["default-src"], "'none'");
  assert.equal(rules["script-src"], "'self' 'wasm-unsafe-eval'");
  assert.equal(rules["worker-src"], "'self'");
  assert.equal(rules["connect-src"], "'self'");
  assert.doesNotMatch(policy, /'unsafe-inline'|'unsafe-eval'|https?:|\*/);
  const html = await (await page.request.get(page.url())).text();
  assert.doesNotMatch(html, /<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=/i);
  for (const [tag] of html.matchAll(/<(?:script|link)\b[^>]*>/gi)) {
    // The icon is in the page; what is preloaded for fetch is checked by the fetch.
    if (/rel="?(icon|preload)\b/.test(tag)) continue;
    assert.match(tag, /integrity="?sha384-/, tag);
  }
}

test("nothing is requested between dropping an image and exporting, with the network cut, and never from another origin", () =>
  withPage({ variant: "" }, async (viewer, { page, context, server, material }) => {
    await viewer.ready();
    await viewer.choose(model().id);
    await viewer.ready();
    await assertStrictPolicy(page);
    // Whatever loads after the page itself has loaded has a second to do so.
    await page.waitForTimeout(1000);
    const [asked, answered] = [page.requests.length, server.log.length];
    await context.setOffline(true);

    const transfer = await page.evaluateHandle(async (base64) => {
      const binary = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
      const transferred = new DataTransfer();
      transferred.items.add(new File([binary], "tile.png", { type: "image/png" }));
      return transferred;
    }, readFileSync(material.tile).toString("base64"));
    const target = page.locator("magnet-viewer");
    for (const kind of ["dragenter", "dragover", "drop"]) await target.dispatchEvent(kind, { dataTransfer: transfer, bubbles: true, composed: true });
    const size = viewer.scope.getByLabel("Micrometres per pixel");
    await size.waitFor();
    await screenshot(page, "pixel-size");
    await size.fill(String(UM_PER_PX));
    await viewer.button("Use this size").click();
    await viewer.finished();

    const exports = {};
    for (const name of ["CSV", "PNG", "Overlay PNG", "GeoJSON", "h5ad", "Provenance"]) exports[name] = await viewer.export(name);
    const requested = page.requests.slice(asked).filter((url) => !/^(blob|data):/.test(url));
    assert.deepEqual(requested, []);
    assert.deepEqual(server.log.slice(answered), []);
    await context.setOffline(false);
    await checkExports(exports, material);
  }));

async function checkExports(exports, material) {
  const { pngSize } = await import("./png.js");
  const { assertSameAnnData } = await import("./h5ad.js");
  const { parseCsv } = await import("./viewer.js");
  const places = material.native("bin").table.names.length;
  assert.equal(parseCsv(exports.CSV.bytes.toString("utf8")).names.length, places);
  assert.ok(pngSize(exports.PNG.bytes).width > 300);
  const overlay = pngSize(exports["Overlay PNG"].bytes);
  assert.equal(overlay.width, overlay.height);
  assert.equal(exports["Overlay PNG"].bytes[25], 6, "the overlay has an alpha channel");
  const features = JSON.parse(exports.GeoJSON.bytes.toString("utf8"));
  assert.equal(features.type, "FeatureCollection");
  assert.equal(features.features.length, places);
  const [feature] = features.features;
  assert.equal(feature.geometry.type, "Polygon");
  assert.deepEqual(feature.geometry.coordinates[0][0], feature.geometry.coordinates[0].at(-1));
  assert.equal(feature.properties.objectType, "tile");
  const provenance = JSON.parse(exports.Provenance.bytes.toString("utf8"));
  assert.match(JSON.stringify(provenance), /[0-9a-f]{64}/);
  assertSameAnnData(exports.h5ad.bytes, `${material.native("bin").folder}/predictions.h5ad`);
  for (const [name, { name: file }] of Object.entries(exports)) assert.match(file, /\.(csv|png|geojson|h5ad|json)$/, name);
}

test("by keyboard alone: the sample, a gene, a level, the map, an export", () =>
  withPage({}, async (viewer, { page }) => {
    await viewer.ready();
    await tabTo(page, viewer.button("Try the sample"));
    await page.keyboard.press("Enter");
    await viewer.finished();

    const search = viewer.scope.getByRole("combobox", { name: "Search gene" });
    await tabTo(page, search);
    await page.keyboard.type("STR1");
    await screenshot(page, "gene-search");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await viewer.scope.getByRole("application", { name: /^Predicted map of STR1\b/ }).waitFor();

    await tabTo(page, viewer.scope.getByRole("radio", { checked: true }).first(), true);
    await page.keyboard.press("ArrowRight");
    await viewer.scope.getByRole("radio", { name: "Spot", checked: true }).waitFor();

    await tabTo(page, viewer.map);
    for (const key of ["+", "+", "ArrowRight", "ArrowDown", "-", "0"]) await page.keyboard.press(key);
    await screenshot(page, "keyboard");

    await tabTo(page, viewer.button("CSV"));
    const [download] = await Promise.all([page.waitForEvent("download"), page.keyboard.press("Enter")]);
    assert.match(download.suggestedFilename(), /\.csv$/);
  }));

/** Presses Tab (or Shift+Tab) until the element has the focus, as a user would. */
async function tabTo(page, locator, anyOfGroup = false) {
  for (const key of ["Tab", "Shift+Tab"]) {
    for (let step = 0; step < 120; step += 1) {
      const focused = await locator.evaluate((element) => element.matches(":focus"));
      if (focused) return;
      await page.keyboard.press(key);
    }
  }
  assert.fail(`cannot be reached with the Tab key: ${locator}${anyOfGroup ? " (a group)" : ""}`);
}

for (const colorScheme of ["light", "dark"]) {
  test(`no accessibility violations, ${colorScheme}`, () =>
    withPage({ colorScheme }, async (viewer, { page }) => {
      await viewer.ready();
      await screenshot(page, `start-${colorScheme}`);
      await assertAccessible(page, `at the start, ${colorScheme}`);
      await viewer.button("Try the sample").click();
      await viewer.finished();
      await viewer.map.waitFor();
      await page.waitForTimeout(300);
      await screenshot(page, `map-${colorScheme}`);
      await assertAccessible(page, `with a map, ${colorScheme}`);
      await screenshot(page, `map-${colorScheme}-whole`, { fullPage: true });
    }));
}

test("on a phone 360 px wide nothing is cut off, and the map is there", () =>
  withPage({ viewport: { width: 360, height: 740 } }, async (viewer, { page, material }) => {
    await viewer.ready();
    await screenshot(page, "phone-start", { fullPage: true });
    await viewer.open(material.tile, UM_PER_PX);
    await viewer.finished();
    await viewer.map.waitFor();
    const { scroll, client } = await page.evaluate(() => ({
      scroll: document.documentElement.scrollWidth,
      client: document.documentElement.clientWidth,
    }));
    assert.ok(scroll <= client, `the page is ${scroll} px wide in a window of ${client} px`);
    await screenshot(page, "phone-map", { fullPage: true });
    const box = await viewer.map.boundingBox();
    assert.ok(box.width > 200 && box.height > 150, `the map is ${box.width} × ${box.height} px`);
    await assertAccessible(page, "on a phone");
  }));

test("several genes side by side, other colours, values at the pointer", () =>
  withPage({ viewport: { width: 1600, height: 1000 } }, async (viewer, { page, material }) => {
    await viewer.ready();
    await viewer.open(material.tile, UM_PER_PX);
    await viewer.finished();
    const options = viewer.scope.getByRole("listbox", { name: "Genes" }).getByRole("option");
    for (const index of [1, 2, 3]) await options.nth(index).click({ modifiers: ["ControlOrMeta"] });
    await viewer.scope.getByLabel("Colour map").selectOption("magma");
    await viewer.scope.getByLabel("Sort genes by").selectOption("variance");
    await page.waitForTimeout(500);
    assert.ok((await viewer.maps.count()) >= 2, "several maps are shown");
    const box = await viewer.map.boundingBox();
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    await viewer.scope.getByLabel("Value at the pointer").filter({ hasText: "µm" }).waitFor();
    await screenshot(page, "side-by-side");
  }));
