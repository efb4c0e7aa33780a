// Wrong and hostile files: each is refused in words, and the page goes on working.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { UM_PER_PX } from "./material.js";
import { screenshot, withPage } from "./shared.js";

test("wrong images and bundles are refused in words, and the next right one works", () =>
  withPage({}, async (viewer, { page, material }) => {
    await viewer.ready();
    const refused = async (label, file, pattern) => {
      await viewer.scope.getByLabel(label).setInputFiles(file);
      const alert = viewer.alert.filter({ hasText: pattern }).first();
      await alert.waitFor({ timeout: 20_000 });
      console.log(`    ${(await alert.textContent()).trim()}`);
    };
    await refused("Image file", material.wrong.text, /text\.png.*(PNG|JPEG|TIFF|image)/is);
    await screenshot(page, "wrong-file");
    await refused("Image file", material.wrong.truncated, /truncated\.jpg/i);
    await refused("Image file", material.wrong.huge, /huge\.png.*65.?535/is);
    await refused("Model file", material.wrong.version, /version.*9999|9999.*version/is);
    await refused("Model file", material.wrong.damaged, /damaged\.safetensors/i);

    await viewer.scope.getByLabel("Model file").setInputFiles(material.bundle);
    await viewer.open(material.tile, UM_PER_PX);
    assert.match(await viewer.finished(), /complete/);
    assert.equal((await viewer.alert.allTextContents()).join("").trim(), "");
  }));

test("an image of 10,000 × 10,000 pixels", () =>
  withPage({}, async (viewer, { page, material }) => {
    await viewer.ready();
    const { large } = material;
    await viewer.scope.getByLabel("Image file").setInputFiles(large);
    const size = viewer.scope.getByLabel("Micrometres per pixel");
    await size.waitFor({ timeout: 60_000 });
    await size.fill(String(UM_PER_PX));
    await viewer.button("Use this size").click();
    assert.match(await viewer.finished(180_000), /complete/);
    await screenshot(page, "large");
  }));

test("an image that is pasted", () =>
  withPage({}, async (viewer, { page, material }) => {
    await viewer.ready();
    await page.evaluate((base64) => {
      const binary = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
      const clipboardData = new DataTransfer();
      clipboardData.items.add(new File([binary], "image.png", { type: "image/png" }));
      document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
    }, readFileSync(material.tile).toString("base64"));
    await viewer.scope.getByLabel("Micrometres per pixel").waitFor();
  }));
