// What the variants of the page put before the engine worker's script: a device that fails in a known way.

/** An adapter without timestamp queries. */
export const NO_TIMESTAMP_QUERY = `
if (self.GPUAdapter) {
  const features = Object.getOwnPropertyDescriptor(GPUAdapter.prototype, "features").get;
  Object.defineProperty(GPUAdapter.prototype, "features", {
    get() { return new Set([...features.call(this)].filter((name) => name !== "timestamp-query")); },
  });
  const requestDevice = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = function (descriptor) {
    if ([...(descriptor?.requiredFeatures ?? [])].includes("timestamp-query")) {
      return Promise.reject(new TypeError("timestamp-query is not supported"));
    }
    return requestDevice.call(this, descriptor);
  };
}
`;

/** Runs `fault` in the worker once a run has sent its first finished piece and goes on; `again` also in engines that take pieces over. */
const afterFirstPiece = (fault, again) => `
{
  let armed = true, pieces = 0;
  addEventListener("message", ({ data }) => { if (!${again} && data?.kind === "restore") armed = false; });
  const post = self.postMessage;
  self.postMessage = function (message, ...rest) {
    if (message?.kind === "piece") pieces += 1;
    if (armed && pieces > 0 && message?.kind === "progress" && message.progress.done < message.progress.total) {
      armed = false;
      ${fault}
    }
    return post.call(self, message, ...rest);
  };
}
`;

/** The device is destroyed in the middle of a run: once, or in every engine. */
export const lostDevice = (again) => `
let openDevice;
if (self.GPUAdapter) {
  const requestDevice = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = async function (descriptor) {
    return (openDevice = await requestDevice.call(this, descriptor));
  };
}
${afterFirstPiece("openDevice?.destroy();", again)}
`;

/** The engine dies in the middle of a run, once, as an aborted WebAssembly module does. */
export const diesOnce = afterFirstPiece('throw new WebAssembly.RuntimeError("unreachable");', false);

/** The software adapter under the name of a graphics card. */
export const HARDWARE = `
if (self.GPUAdapter) {
  const info = { vendor: "workbench", architecture: "bench-1", device: "", description: "Workbench GPU", isFallbackAdapter: false };
  Object.defineProperty(GPUAdapter.prototype, "info", { get: () => info });
  Object.defineProperty(GPUAdapter.prototype, "isFallbackAdapter", { get: () => false });
}
`;
