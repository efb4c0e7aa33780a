// What the element promises to a page: promises that settle, errors with a code, maps that stay.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { UM_PER_PX } from "./material.js";
import { pngSize } from "./png.js";
import { screenshot, withPage } from "./shared.js";

/** The files of the page's script, by name. */
const hand = (page, files) =>
  page.evaluate((contents) => {
    window.files = Object.fromEntries(
      Object.entries(contents).map(([name, base64]) => [
        name,
        new File([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))], name),
      ]),
    );
    window.viewer = document.querySelector("magnet-viewer");
    /** What a promise comes to: its value, or the code of its error. */
    window.outcome = (promise) => promise.then((value) => ({ value: Boolean(value) }), ({ code, name }) => ({ code: code ?? name }));
  }, Object.fromEntries(Object.entries(files).map(([name, path]) => [name, readFileSync(path).toString("base64")])));

test("methods settle with what they are about, and a refused file leaves the map", () =>
  withPage({}, async (viewer, { page, material }) => {
    await viewer.ready();
    await hand(page, { small: material.small, text: material.wrong.text, damaged: material.wrong.damaged, bundle: material.bundle });
    const early = await page.evaluate(() => window.outcome(window.viewer.values("bin", "STR2")));
    assert.deepEqual(early, { code: "state" });

    const progress = await page.evaluate(async (umPerPx) => {
      const totals = [];
      window.viewer.addEventListener("progress", ({ detail }) => totals.push(detail.total));
      const result = new Promise((resolve) => window.viewer.addEventListener("result", resolve, { once: true }));
      await window.viewer.open(window.files.small, { umPerPx });
      await result;
      return totals;
    }, UM_PER_PX);
    assert.ok(progress.every((total) => total > 0), `${progress}`);
    const before = await page.evaluate(() => window.viewer.values("bin", "STR2").then((values) => [...values]));

    const outcomes = await page.evaluate(async () => {
      const { viewer, files, outcome } = window;
      const unknown = await outcome(viewer.values("bin", "NONE"));
      // A gene that the model lacks is said, but is no fault of what is opened next.
      viewer.setAttribute("gene", "NONE");
      const model = await outcome(viewer.openModel(files.bundle));
      const wrongModel = await outcome(viewer.openModel(files.damaged));
      const noModel = await outcome(viewer.openModel("unheard-of"));
      const wrongImage = await outcome(viewer.open(files.text));
      return { unknown, model, wrongModel, noModel, wrongImage };
    });
    assert.deepEqual(outcomes, {
      unknown: { code: "input" },
      model: { value: true },
      wrongModel: { code: "input" },
      noModel: { code: "input" },
      wrongImage: { code: "input" },
    });
    await viewer.scope.getByText(/Map complete/).waitFor();
    const after = await page.evaluate(() => window.viewer.values("bin", "STR2").then((values) => [...values]));
    assert.deepEqual(after, before);

    const disposed = await page.evaluate(async () => {
      await window.viewer.dispose();
      return window.viewer.state;
    });
    assert.equal(disposed, "disposed");
  }));

test("the model of array spots says so, offers no drawn tissue, and weak genes look weak", () =>
  withPage({}, async (viewer, { page }) => {
    await viewer.ready();
    assert.equal(await viewer.button("Try the sample").isDisabled(), false);
    await viewer.choose("breast");
    await viewer.scope.getByRole("radio", { name: "Spot (100 µm)" }).waitFor();
    assert.equal(await viewer.button("Try the sample").isDisabled(), true);
    await viewer.scope.getByRole("option", { name: /held-out Pearson −0/ }).first().scrollIntoViewIfNeeded();
    assert.ok((await viewer.scope.locator(".genes li[data-weak]").count()) > 0);
    await screenshot(page, "breast");
  }));

test("several genes are saved in one picture, and exports need no scrolling", () =>
  withPage({}, async (viewer, { page, material }) => {
    await viewer.ready();
    await viewer.open(material.small, UM_PER_PX);
    await viewer.finished();
    const one = pngSize((await viewer.export("PNG")).bytes);
    await viewer.scope.getByLabel("Show genes side by side").check();
    for (const gene of ["STR3", "STR4"]) await viewer.scope.getByRole("option", { name: new RegExp(`^${gene}\\b`) }).click();
    await viewer.maps.nth(2).waitFor();
    const three = await viewer.export("PNG");
    assert.deepEqual(pngSize(three.bytes), { width: 2 * one.width, height: 2 * one.height });
    assert.match(three.name, /_and_2_more\.png$/);
    const box = await viewer.button("GeoJSON").boundingBox();
    assert.ok(box.y + box.height <= 800, `${box.y}`);
    await screenshot(page, "three-genes");
  }));

test("the map fills in while the run goes on", () =>
  // On the software adapter, where a run lasts long enough to be looked at.
  withPage({ variant: "gpu", webgpu: true }, async (viewer, { page }) => {
    await viewer.ready();
    await viewer.button("Try the sample").click();
    const map = viewer.scope.locator(".map canvas").first();
    await page.locator("magnet-viewer[data-state=running]").waitFor();
    await viewer.scope.locator(".legend:not([hidden])").first().waitFor({ timeout: 120_000 });
    assert.equal(await page.locator("magnet-viewer").getAttribute("data-state"), "running");
    await screenshot(page, "filling-in");
    assert.ok(await map.isVisible());
  }));
