// The second visit needs no network: page, engine and model are there.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DIST, UM_PER_PX, model } from "./material.js";
import { serve } from "./server.js";
import { screenshot, withPage } from "./shared.js";

test("the second visit works without a server, model included", async () => {
  // A server of its own, which is shut down: emulated offline does not reach service workers.
  const server = await serve(DIST);
  await withPage({ url: server.url(), origin: server.origin, offline: true }, async (viewer, { page, material }) => {
    await viewer.ready();
    await viewer.choose(model().id);
    await viewer.ready();
    await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
    const stored = await page.evaluate(async () => {
      const names = await caches.keys();
      const entries = await Promise.all(names.map(async (name) => (await (await caches.open(name)).keys()).map(({ url }) => url)));
      return entries.flat();
    });
    assert.ok(stored.every((url) => url.startsWith(server.origin)), `${stored}`);

    await server.close();
    await page.reload();
    await viewer.ready();
    await viewer.choose(model().id);
    await viewer.open(material.tile, UM_PER_PX);
    assert.match(await viewer.finished(), /complete/);
    await screenshot(page, "offline");
  });
});
