// One server and two browsers for all tests: with WebGPU on Chromium's software adapter, and without any adapter.
import { join } from "node:path";
import { openPage, start } from "./browser.js";
import { DIST, OUTPUT, model, prepare } from "./material.js";
import * as preludes from "./preludes.js";
import { serve } from "./server.js";
import { Viewer } from "./viewer.js";

/** Chooses the device of the page's element, and the small model. */
const device = (name) => (html) => html.replace("<magnet-viewer", `<magnet-viewer device="${name}" model="${model().id}"`);
const worker = (prelude) => (script) => `${prelude}\n${script}`;

const VARIANTS = {
  auto: { "index.html": device("auto") },
  cpu: { "index.html": device("cpu") },
  gpu: { "index.html": device("gpu") },
  "no-timestamp-query": { "index.html": device("auto"), "engine-worker.js": worker(preludes.NO_TIMESTAMP_QUERY) },
  hardware: { "index.html": device("auto"), "engine-worker.js": worker(preludes.HARDWARE) },
  "lost-once": { "index.html": device("gpu"), "engine-worker.js": worker(preludes.LOST_ONCE) },
  "lost-again": { "index.html": device("gpu"), "engine-worker.js": worker(preludes.LOST_AGAIN) },
  "counts-bytes": { "index.html": device("cpu"), "slide-worker.js": worker(preludes.COUNTS_BYTES) },
  "slide-dies": { "index.html": device("cpu"), "slide-worker.js": worker(preludes.SLIDE_DIES_ONCE) },
  "dies-once": { "index.html": device("cpu"), "engine-worker.js": worker(preludes.DIES_ONCE) },
};

let opening;
const browsers = {};

/** The server and the material; made at the first call. */
export function shared() {
  opening ??= (async () => {
    const server = await serve(DIST, VARIANTS);
    const context = await (await browser(false)).newContext();
    const material = await prepare(await context.newPage());
    await context.close();
    return { server, material };
  })();
  return opening;
}

export async function browser(webgpu) {
  const name = webgpu ? "webgpu" : "plain";
  browsers[name] ??= start({ webgpu });
  return browsers[name];
}

/**
 * Opens a variant of the page in a fresh profile, calls `body`, closes it, and fails if something went wrong in the
 * page that nobody expected. A picture of the page is kept where the body fails.
 */
export async function withPage(options, body) {
  const { server, material } = await shared();
  const context = await (await browser(options.webgpu ?? false)).newContext({
    acceptDownloads: true,
    serviceWorkers: options.offline ? "allow" : "block",
    viewport: options.viewport ?? { width: 1280, height: 800 },
    colorScheme: options.colorScheme ?? "light",
    reducedMotion: "reduce",
    hasTouch: options.hasTouch ?? false,
  });
  context.setDefaultTimeout(30_000);
  const page = await openPage(context, options.url ?? server.url(options.variant ?? "cpu"));
  try {
    await body(new Viewer(page), { page, context, server, material });
    const unexpected = page.faults.filter((fault) => !(options.faults ?? []).some((pattern) => pattern.test(fault)));
    if (unexpected.length > 0) throw new Error(`in the page: ${unexpected.join("; ")}`);
    const origin = options.origin ?? server.origin;
    const foreign = page.requests.filter((url) => !url.startsWith(origin) && !/^(blob|data):/.test(url));
    if (foreign.length > 0) throw new Error(`requests to other origins: ${foreign}`);
  } catch (error) {
    await screenshot(page, `failed-${(options.variant ?? "cpu")}-${Date.now() % 100_000}`).catch(() => undefined);
    if (page.faults.length > 0) console.error(page.faults.join("\n"));
    throw error;
  } finally {
    await context.close();
  }
}

export const screenshot = (page, name, options = {}) => page.screenshot({ path: join(OUTPUT, `${name}.png`), ...options });

export async function closeShared() {
  await Promise.all(Object.values(browsers).map(async (started) => (await started).close()));
  if (opening) await (await opening).server.close();
}
