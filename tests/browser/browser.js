// Chromium as the tests start it, and what they watch in it.
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const CANDIDATES = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

// Quiet, offline but for this machine, and as root.
const FLAGS = [
  "--no-sandbox",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
  "--disable-quic",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];
const WEBGPU_FLAGS = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

/** Starts Chromium; with `webgpu` on its software adapter, else without any adapter. */
export async function start({ webgpu }) {
  const executablePath = CANDIDATES.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error("no Chromium: install it or set CHROMIUM to its path");
  return chromium.launch({ executablePath, args: [...FLAGS, ...(webgpu ? WEBGPU_FLAGS : [])] });
}

/** Opens a page that keeps what it asked the network for and what went wrong in it. */
export async function openPage(context, url, options = {}) {
  const page = await context.newPage();
  page.requests = [];
  page.faults = [];
  page.on("request", (request) => page.requests.push(request.url()));
  page.on("pageerror", (error) => page.faults.push(`uncaught: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") page.faults.push(`console: ${message.text()}`);
    if (process.env.VERBOSE) console.log(`[${message.type()}] ${message.text()}`);
  });
  if (options.viewport) await page.setViewportSize(options.viewport);
  await page.goto(url);
  return page;
}
