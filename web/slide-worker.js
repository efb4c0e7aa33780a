// The slide reader's worker. It loads and compiles its module at once, so that nothing is asked of the network once a
// slide is open, and starts it with the first message, so that a page without slides pays for no memory.

import init, { serve } from "./magnet-slide.js";
import hashes from "./magnet-hashes.js";

const WASM = "magnet-slide_bg.wasm";

async function compiled() {
  const response = await fetch(new URL(`./${WASM}`, import.meta.url), { integrity: hashes[WASM] ?? "" });
  if (!response.ok) throw new Error(`${WASM}: expected the slide reader, found HTTP status ${response.status}`);
  // A server that does not know wasm's media type is no reason to fail.
  const known = response.headers.get("content-type")?.startsWith("application/wasm");
  return known ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
}

const arrived = [];
const first = new Promise((resolve) => {
  self.onmessage = (event) => {
    arrived.push(event.data);
    resolve();
  };
});
// What goes wrong here or later, also in the module, reaches the page as the worker's error.
self.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  setTimeout(() => {
    throw event.reason;
  });
});
const module = await compiled();
self.postMessage(["loaded"]);
await first;
await init({ module_or_path: module });
serve(arrived); // takes onmessage over
