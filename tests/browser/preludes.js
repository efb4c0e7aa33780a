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
 * Runs `fault` in the worker while a run goes on, after `pieces` finished pieces: in every engine if `again`, else only
 * in one that has not taken pieces over.
 */
const during = (fault, { pieces, again }) => `
{
  let armed = true, sent = 0;
  addEventListener("message", ({ data }) => { if (!${again} && data?.kind === "restore") armed = false; });
  const post = self.postMessage;
  self.postMessage = function (message, ...rest) {
    if (message?.kind === "piece") sent += 1;
    if (armed && sent >= ${pieces} && message?.kind === "progress" && message.progress.done < message.progress.total) {
      armed = false;
      ${fault}
    }
    return post.call(self, message, ...rest);
  };
}
`;

/** The device is destroyed in the middle of a run. */
const lostDevice = (when) => `
let openDevice;
if (self.GPUAdapter) {
  const requestDevice = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = async function (descriptor) {
    return (openDevice = await requestDevice.call(this, descriptor));
  };
}
${during("openDevice?.destroy();", when)}
`;

/** Lost once, when there is something to go on from. */
export const LOST_ONCE = lostDevice({ pieces: 1, again: false });

/** Lost in every engine, as soon as the run has begun. */
export const LOST_AGAIN = lostDevice({ pieces: 0, again: true });

/** The engine dies in the middle of a run, once, as an aborted WebAssembly module does. */
export const DIES_ONCE = during('throw new WebAssembly.RuntimeError("unreachable");', { pieces: 1, again: false });

/** Counts what the slide worker reads of a file, and tells it with each message. */
export const COUNTS_BYTES = `
{
  let read = 0;
  const readAsArrayBuffer = FileReaderSync.prototype.readAsArrayBuffer;
  FileReaderSync.prototype.readAsArrayBuffer = function (blob) {
    read += blob.size;
    return readAsArrayBuffer.call(this, blob);
  };
  const channel = new BroadcastChannel("bytes-read");
  setInterval(() => channel.postMessage(read), 50);
}
`;

/** The slide worker dies with the sixth piece of the view, once. */
export const SLIDE_DIES_ONCE = `
{
  const post = self.postMessage;
  let pieces = 0;
  self.postMessage = function (message, ...rest) {
    if (message[0]?.tile && ++pieces === 6) {
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
