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

/**
 * The device is destroyed once a run has passed `part` of its way. Where `again` is false, an engine that takes over
 * earlier pieces keeps its device.
 */
export const lostDevice = (part, again) => `
{
  let device, armed = true;
  addEventListener("message", ({ data }) => { if (!${again} && data?.kind === "restore") armed = false; });
  if (self.GPUAdapter) {
    const requestDevice = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (descriptor) {
      return (device = await requestDevice.call(this, descriptor));
    };
  }
  const post = self.postMessage;
  self.postMessage = function (message, ...rest) {
    const progress = message?.kind === "progress" ? message.progress : undefined;
    if (armed && device && progress && progress.total > 0 && progress.done >= ${part} * progress.total && progress.done < progress.total) {
      armed = false;
      device.destroy();
    }
    return post.call(self, message, ...rest);
  };
}
`;

/** The engine dies as an aborted WebAssembly module does, once a run has passed `part` of its way; not again with pieces taken over. */
export const diesOnce = (part) => `
{
  let armed = true;
  addEventListener("message", ({ data }) => { if (data?.kind === "restore") armed = false; });
  const post = self.postMessage;
  self.postMessage = function (message, ...rest) {
    const progress = message?.kind === "progress" ? message.progress : undefined;
    if (armed && progress && progress.total > 0 && progress.done >= ${part} * progress.total && progress.done < progress.total) {
      armed = false;
      throw new WebAssembly.RuntimeError("unreachable");
    }
    return post.call(self, message, ...rest);
  };
}
`;

/** The software adapter under the name of a graphics card. */
export const HARDWARE = `
if (self.GPUAdapter) {
  const info = { vendor: "workbench", architecture: "bench-1", device: "", description: "Workbench GPU", isFallbackAdapter: false };
  Object.defineProperty(GPUAdapter.prototype, "info", { get: () => info });
  Object.defineProperty(GPUAdapter.prototype, "isFallbackAdapter", { get: () => false });
}
`;
