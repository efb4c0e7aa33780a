// A page that is not ours installs the packed package by npm and shows two viewers.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openPage } from "./browser.js";
import { OUTPUT, ROOT } from "./material.js";
import { serve } from "./server.js";
import { browser, screenshot, shared } from "./shared.js";

const run = (command, words, cwd) => execFileSync(command, words, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });

/** The portal with the packed package installed, as npm would install it from the registry. */
function install(material) {
  const folder = join(OUTPUT, "portal");
  const packed = join(OUTPUT, "package");
  run("scripts/web-package", ["--no-build", packed], ROOT);
  run("npm", ["pack", "--silent", "--pack-destination", OUTPUT], packed);
  const tarball = readdirSync(OUTPUT).find((name) => /^magnet-viewer-.*\.tgz$/.test(name));
  cpSync(join(ROOT, "web/examples/portal"), folder, { recursive: true, filter: (path) => !path.includes("node_modules") });
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "portal", private: true }));
  run("npm", ["install", "--silent", "--no-audit", "--no-fund", "--offline", join(OUTPUT, tarball)], folder);
  mkdirSync(join(folder, "models"), { recursive: true });
  mkdirSync(join(folder, "slides"), { recursive: true });
  copyFileSync(material.bundle, join(folder, "models/model.safetensors"));
  copyFileSync(material.tile, join(folder, "slides/section-1.png"));
  copyFileSync(material.tile, join(folder, "slides/section-2.png"));
  return folder;
}

test("two viewers in a portal; disposing of one ends its workers; the engine works alone", async () => {
  const { material } = await shared();
  const server = await serve(install(material));
  const context = await (await browser(false)).newContext({ viewport: { width: 1400, height: 900 } });
  context.setDefaultTimeout(60_000);
  try {
    const page = await openPage(context, server.url());
    const log = page.getByRole("list", { name: "What the viewers told the portal" });
    for (const name of ["first", "second"]) await log.getByText(`${name}: complete map`).waitFor({ timeout: 120_000 });
    await page.waitForTimeout(500);
    await screenshot(page, "portal");
    assert.deepEqual(page.faults, []);
    assert.equal((await page.evaluate(() => navigator.serviceWorker.getRegistrations())).length, 0);
    assert.deepEqual(page.requests.filter((url) => !url.startsWith(server.origin) && !/^(blob|data):/.test(url)), []);

    const before = page.workers().length;
    await page.getByRole("button", { name: "Close section 1" }).click();
    await log.getByText("first: closed").waitFor();
    await page.waitForTimeout(500);
    const after = page.workers().length;
    assert.ok(after === before / 2, `${before} workers before, ${after} after one of two viewers was disposed of`);
    assert.equal(await page.locator("magnet-viewer").count(), 1);

    // The engine without the element.
    const { genes, values } = await page.evaluate(async () => {
      const { MagnetEngine } = await import("./node_modules/magnet-viewer/engine.js");
      const bytes = async (url) => (await fetch(url)).arrayBuffer();
      const engine = new MagnetEngine();
      await engine.start("cpu");
      const opened = await engine.openModel(await bytes("models/model.safetensors"));
      await engine.openImage(await bytes("slides/section-1.png"), { name: "section-1.png", umPerPx: 0.5 });
      const { complete } = await engine.predict();
      if (!complete) throw new Error("the run is not complete");
      const first = await engine.values("bin", 0);
      if (engine.centers("bin").length !== 2 * first.values.length) throw new Error("centres and values differ in number");
      const csv = await engine.export("csv", { level: "bin" });
      if (!csv.name.endsWith(".csv")) throw new Error(csv.name);
      engine.dispose();
      return { genes: opened.symbols, values: [...first.values] };
    });
    const { table } = material.native("bin");
    assert.deepEqual(genes, table.genes);
    for (const [row, value] of values.entries()) {
      assert.ok(Math.abs(value - table.values[0][row]) <= 1e-3 * Math.max(Math.abs(value), 0.05), `row ${row}`);
    }
  } finally {
    await context.close();
    await server.close();
  }
});
