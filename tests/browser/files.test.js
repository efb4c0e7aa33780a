// Wrong and hostile files: each is refused in words, and the page goes on working.
import assert from "node:assert/strict";
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
    await refused("Image file", material.wrong.huge, /huge\.png.*(65.?535|large|limit)/is);
    await refused("Model file", material.wrong.version, /version.*9999|9999.*version/is);
    await refused("Model file", material.wrong.damaged, /damaged\.safetensors/i);

    await viewer.scope.getByLabel("Model file").setInputFiles(material.bundle);
    await viewer.open(material.tile, UM_PER_PX);
    assert.match(await viewer.finished(), /complete/);
    assert.equal((await viewer.alert.allTextContents()).join("").trim(), "");
  }));
