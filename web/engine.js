// The engine without a page: one worker, asked one thing at a time. The messages are those of web/src/protocol.rs.

/** What the engine answers when a request cannot be met. `code` says what kind of thing went wrong. */
export class EngineError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "EngineError";
    this.code = code;
  }
}

const LEVELS = ["bin", "spot", "region"];

export class MagnetEngine {
  #worker;
  #pending; // the request that is being answered: { answer, onEvent, resolve, reject }
  #turn = Promise.resolve();
  #fault;
  #planned;

  constructor() {
    this.#worker = new Worker(new URL("./engine-worker.js", import.meta.url), { type: "module", name: "magnet-engine" });
    this.#worker.onmessage = ({ data }) => this.#hear(data);
    this.#worker.onerror = (event) => {
      event.preventDefault?.();
      this.#end(new EngineError("internal", `the engine has stopped: ${event.message || "its worker could not be loaded"}`));
    };
  }

  /** Chooses a device: `auto`, `gpu` or `cpu`. Resolves to what was chosen, and why. */
  async start(device = "auto") {
    return (await this.#ask({ kind: "start", device }, "ready")).report;
  }

  /** Opens a bundle, given as an ArrayBuffer or a Blob. An ArrayBuffer is handed over, not copied. */
  async openModel(source, { name = source.name ?? "model.safetensors" } = {}) {
    const bytes = await bytesOf(source);
    return (await this.#ask({ kind: "openModel", name, bytes }, "modelOpened")).model;
  }

  /** Opens an image, given as an ArrayBuffer or a Blob. `umPerPx` overrides the pixel size that the file gives. */
  async openImage(source, { name = source.name ?? "image", umPerPx } = {}) {
    const bytes = await bytesOf(source);
    return (await this.#ask({ kind: "openImage", name, umPerPx, bytes }, "imageOpened")).image;
  }

  /** Sets the pixel size of the open image. */
  async setPixelSize(umPerPx) {
    return (await this.#ask({ kind: "setPixelSize", umPerPx }, "imageOpened")).image;
  }

  /** Predicts the open image with the open model, until it is done or `cancel` is called. */
  async predict({ blockBins = 256, chunkPixels = 0, onProgress } = {}) {
    const limits = { blockBins, chunkPixels };
    const onEvent = (event) => {
      if (event.kind === "planned") this.#planned = event;
      if (event.kind === "progress") onProgress?.(event.progress);
    };
    const { complete, seconds } = await this.#ask({ kind: "predict", limits }, "finished", onEvent);
    return { complete, seconds };
  }

  /** Ends a prediction after its current step; `predict` then resolves with `complete: false`. */
  cancel() {
    this.#worker?.postMessage({ kind: "cancel" });
  }

  /** The values of a gene (its position in the model's `symbols`) at a level, and where their colours run by default. */
  async values(level, gene) {
    const { values, low, high } = await this.#ask({ kind: "values", level, gene }, "values");
    return { values, low, high };
  }

  /** Centres of a level's values in pixels of the image, x and y in turn; undefined before the first `predict`. */
  centers(level) {
    if (!this.#planned) return undefined;
    const { nodes, values } = this.#planned;
    const before = LEVELS.slice(0, LEVELS.indexOf(level)).reduce((sum, other) => sum + nodes[other], 0);
    return values.subarray(2 * before, 2 * (before + nodes[level]));
  }

  /** Makes a file: `csv`, `h5ad`, `png`, `overlay`, `geojson` or `provenance`. */
  async export(kind, { level = "bin", genes = [0], colorMap = "viridis", opacity = 0.85, low, high } = {}) {
    let range = { low, high };
    if (low === undefined || high === undefined) {
      const values = await this.values(level, genes[0] ?? 0);
      range = { low: low ?? values.low, high: high ?? values.high };
    }
    const request = { kind: "export", export: kind, level, genes, style: { colorMap, opacity, ...range } };
    const { name, mediaType, bytes } = await this.#ask(request, "exported");
    return new File([bytes], name, { type: mediaType });
  }

  /** Ends the engine and gives its memory back. Whatever was asked of it is rejected. */
  dispose() {
    this.#end(new EngineError("state", "the engine was disposed of"));
  }

  #ask(request, answer, onEvent) {
    const asked = this.#turn.then(
      () =>
        new Promise((resolve, reject) => {
          if (this.#fault) {
            reject(this.#fault);
            return;
          }
          this.#pending = { answer, onEvent, resolve, reject };
          this.#worker.postMessage(request, request.bytes ? [request.bytes.buffer] : []);
        }),
    );
    this.#turn = asked.catch(() => undefined);
    return asked;
  }

  #hear(event) {
    const pending = this.#pending;
    if (event.kind === "failed" || event.kind === pending?.answer) {
      this.#pending = undefined;
      if (event.kind === "failed") pending?.reject(new EngineError(event.code, event.message));
      else pending.resolve(event);
    } else {
      pending?.onEvent?.(event);
    }
  }

  #end(fault) {
    this.#fault ??= fault;
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#pending?.reject(fault);
    this.#pending = undefined;
  }
}

async function bytesOf(source) {
  const buffer = source instanceof ArrayBuffer ? source : await source.arrayBuffer();
  return new Uint8Array(buffer);
}
