// The engine's worker. It loads and compiles the engine at once and starts it with the first message, so that a spare
// worker costs little and needs nothing from the network later.

import init, { serve } from "./magnet-engine.js";
import hashes from "./magnet-hashes.js";

const WASM = "magnet-engine_bg.wasm";

async function compiled() {
  const response = await fetch(new URL(`./${WASM}`, import.meta.url), { integrity: hashes[WASM] ?? "" });
  if (!response.ok) throw new Error(`${WASM}: expected the engine, found HTTP status ${response.status}`);
  // A server that does not know wasm's media type is no reason to fail.
  const known = response.headers.get("content-type")?.startsWith("application/wasm");
  return known ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
}

// The engine says in words why it panics. A bare trap is what remains: memory that could not be had.
function fail(error) {
  const exhausted =
    error instanceof WebAssembly.RuntimeError || (error instanceof RangeError && /alloc/i.test(error.message));
  const message = exhausted
    ? "the engine's memory does not suffice (a browser gives it 4 GB at most)"
    : (error?.message ?? String(error));
  self.postMessage({ kind: "failed", code: exhausted ? "outOfMemory" : "internal", message });
}
self.addEventListener("error", (event) => {
  event.preventDefault();
  fail(event.error ?? event);
});
self.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  fail(event.reason);
});

const arrived = [];
const first = new Promise((resolve) => {
  self.onmessage = (event) => {
    arrived.push(event.data);
    resolve();
  };
});
const module = await compiled();
// The version is known once the engine runs.
self.postMessage({ kind: "loaded", version: "" });
await first;
await init({ module_or_path: module });
serve(arrived); // takes onmessage over
