// <magnet-viewer>: gene expression predicted from an H&E image, in the tab that shows it. Types: magnet-viewer.d.ts.
import initialize, { mount } from "./magnet-page.js";
import hashes from "./magnet-hashes.js";

const urlOf = (name) => new URL(name, import.meta.url).href;

/** The page module is loaded once for all viewers of a document. A failed attempt can be made again. */
let loading;
function load() {
  loading ??= initialize({
    module_or_path: fetch(urlOf("./magnet-page_bg.wasm"), { integrity: hashes["magnet-page_bg.wasm"] ?? "" }),
  }).catch((error) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

/** Resolves once the style sheet applies, or cannot be had: an unstyled viewer is better than none. */
function stylesheet() {
  const link = document.createElement("link");
  const settled = new Promise((resolve) => {
    link.addEventListener("load", resolve, { once: true });
    link.addEventListener("error", resolve, { once: true });
  });
  link.rel = "stylesheet";
  link.integrity = hashes["magnet-viewer.css"] ?? "";
  if (link.integrity) link.crossOrigin = "anonymous";
  link.href = urlOf("./magnet-viewer.css");
  return { link, settled };
}

/** Attributes that a viewer takes over whenever they change. A pixel size must be there before an image is opened. */
const FOLLOWED = ["mpp", "um-per-px", "level", "gene", "colormap", "device", "theme", "model", "region", "src"];
/** Those that the viewer already has from its options. */
const GIVEN_AT_START = new Set(["device", "model"]);

export class MagnetViewer extends HTMLElement {
  static observedAttributes = FOLLOWED;

  #root = this.attachShadow({ mode: "open" });
  #mounting = null;
  #viewer = null;
  #waiting = { open: [], model: [], result: [], cancel: [] };

  /** `loading`, `ready`, `running`, `done`, `partial`, `error` or `disposed`. */
  get state() {
    return this.dataset.state ?? "loading";
  }

  connectedCallback() {
    if (this.hasAttribute("offline")) registerServiceWorker();
    // What goes wrong is shown and told by an event; a caller of a method gets it as well.
    this.#mounted().catch(() => {});
  }

  disconnectedCallback() {
    // An element that is moved is disconnected and connected again at once; it keeps what it has.
    queueMicrotask(() => {
      if (!this.isConnected) this.dispose();
    });
  }

  attributeChangedCallback(name, before, after) {
    if (before !== after) this.#viewer?.setAttribute(nameWithin(name), after);
  }

  async open(source, { umPerPx, name } = {}) {
    const viewer = await this.#mounted();
    const given = source instanceof URL ? source.href : source;
    return this.#answer("open", () => viewer.open(given, name, umPerPx));
  }

  async openModel(source, { name } = {}) {
    const viewer = await this.#mounted();
    const given = source instanceof URL ? source.href : source;
    return this.#answer("model", () => viewer.openModel(given, name));
  }

  async predict() {
    const viewer = await this.#mounted();
    return this.#answer("result", () => viewer.predict());
  }

  async cancel() {
    if (this.state !== "running") return undefined;
    const viewer = await this.#mounted();
    return this.#answer("cancel", () => viewer.cancel());
  }

  async values(level, gene) {
    return (await this.#mounted()).values(level, gene);
  }

  async dispose() {
    const viewer = this.#viewer;
    this.#viewer = null;
    this.#mounting = null;
    viewer?.dispose();
    viewer?.free();
    this.#root.replaceChildren();
    this.dataset.state = "disposed";
    const reason = new DOMException("The viewer was disposed of.", "AbortError");
    for (const list of Object.values(this.#waiting)) for (const { reject } of list.splice(0)) reject(reason);
  }

  #mounted() {
    this.#mounting ??= this.#mount();
    return this.#mounting;
  }

  async #mount() {
    this.dataset.state = "loading";
    const { link, settled } = stylesheet();
    this.#root.replaceChildren(link);
    const attempt = {};
    this.#attempt = attempt;
    try {
      await Promise.all([load(), settled]);
    } catch (error) {
      this.#mounting = null;
      this.#showFailure(error);
      throw error;
    }
    if (this.#attempt !== attempt || this.#mounting === null) {
      throw new DOMException("The viewer was disposed of.", "AbortError");
    }
    const catalogue = this.getAttribute("catalogue");
    this.#viewer = mount(this.#root, {
      base: urlOf("./"),
      catalogue: catalogue ? new URL(catalogue, document.baseURI).href : null,
      model: this.getAttribute("model"),
      device: this.getAttribute("device"),
      wholePage: this.hasAttribute("whole-page"),
      notify: (name, detail) => this.#notify(name, detail),
    });
    for (const name of FOLLOWED) {
      const value = this.getAttribute(name);
      if (value !== null && !GIVEN_AT_START.has(name)) this.#viewer.setAttribute(nameWithin(name), value);
    }
    return this.#viewer;
  }

  #attempt = null;

  /** Asks, and answers when the viewer tells. */
  #answer(what, ask) {
    return new Promise((resolve, reject) => {
      this.#waiting[what].push({ resolve, reject });
      try {
        ask();
      } catch (error) {
        this.#waiting[what].pop();
        reject(error);
      }
    });
  }

  #notify(name, detail) {
    const settle = (what) => {
      for (const { resolve } of this.#waiting[what].splice(0)) resolve(detail);
    };
    if (name === "image") settle("open");
    if (name === "model") settle("model");
    if (name === "result") ["result", "cancel"].forEach(settle);
    if (name === "error") {
      const { subject, ...told } = detail;
      const error = Object.assign(new Error(detail.message), { code: detail.code });
      for (const what of ["open", "model", "result"]) {
        if (subject !== what && subject !== "all") continue;
        for (const { reject } of this.#waiting[what].splice(0)) reject(error);
      }
      detail = told;
    }
    if (name === "image" || name === "model") return;
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }

  #showFailure(error) {
    this.dataset.state = "error";
    const message = document.createElement("p");
    message.setAttribute("role", "alert");
    message.textContent = `The viewer could not be loaded: ${error.message}`;
    this.#root.append(message);
    this.#notify("error", { code: "internal", message: message.textContent, subject: "all" });
  }
}

/** Two names for one thing: microscopists write mpp. */
function nameWithin(attribute) {
  return attribute === "um-per-px" ? "mpp" : attribute;
}

/** Keeps the page and its models for visits without a network. Only a page of its own asks for it. */
function registerServiceWorker() {
  if (!("serviceWorker" in navigator)) return;
  const register = () => navigator.serviceWorker.register(urlOf("./service-worker.js")).catch(() => {});
  if (document.readyState === "complete") register();
  else addEventListener("load", register, { once: true });
}

if (!customElements.get("magnet-viewer")) customElements.define("magnet-viewer", MagnetViewer);
