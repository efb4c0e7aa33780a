// Types of <magnet-viewer>. Importing "./magnet-viewer.js" defines the element.
import type { DeviceReport, ImageSummary, Level } from "./engine.js";

export type { DeviceReport, ImageSummary, Level };

/** How far a run has come: the detail of `progress`. */
export interface ProgressDetail {
  /** Tiles encoded and bins predicted. */
  done: number;
  /** Tiles to encode and bins to predict. */
  total: number;
  binsDone: number;
  binsTotal: number;
  /** 0 until it is known. */
  tilesPerSecond: number;
  /** `null` until it can be told. */
  remainingSeconds: number | null;
  elapsedSeconds: number;
}

/** How a run ended: the detail of `result`. */
export interface ResultDetail {
  /** False for a map that was cancelled; it covers `binsDone` of `binsTotal` bins. */
  complete: boolean;
  seconds: number;
  binsDone: number;
  binsTotal: number;
  device: "gpu" | "cpu" | null;
  /** SHA-256 of the bundle. */
  model: string | null;
  /** SHA-256 of the image file; `null` for a slide, which is not read whole. */
  image: string | null;
  /** The level on screen. */
  level: Level;
  /** Symbols of the genes on screen. */
  genes: string[];
}

/** The chosen region of a slide, in its full-resolution pixels: the detail of `regionchange`. */
export interface RegionDetail {
  /** Left edge. */
  x: number;
  /** Top edge. */
  y: number;
  width: number;
  height: number;
  /** `null` while the slide's pixel size is not known. */
  widthUm: number | null;
  heightUm: number | null;
}

/** What went wrong: the detail of `error`. */
export interface ErrorDetail {
  code: "input" | "network" | "device" | "memory" | "state" | "internal";
  /** What was expected and what was found, for people. */
  message: string;
}

/** All of the element's own events bubble and cross shadow roots. */
export interface MagnetViewerEventMap {
  /** A device is chosen; images and models can be opened before that as well. */
  ready: CustomEvent<DeviceReport>;
  /** At most ten times a second during a run. */
  progress: CustomEvent<ProgressDetail>;
  /** A run has ended. */
  result: CustomEvent<ResultDetail>;
  /** Another region of a slide is chosen, or none; told when a drag has ended. */
  regionchange: CustomEvent<RegionDetail | null>;
  /** Something could not be done. */
  error: CustomEvent<ErrorDetail>;
}

/**
 * Attributes:
 * - `catalogue`: address of a list of models; without it the viewer offers none
 * - `model`: id in the catalogue, or address of a bundle
 * - `src`: address of an image, opened at once; a whole slide (SVS, OME-TIFF, BigTIFF) is read where it lies if its
 *   server answers range requests
 * - `region`: the part of a slide to predict, `x,y,width,height` in its full-resolution pixels; predicted as soon as there
 *   is a model and a pixel size
 * - `mpp` or `um-per-px`: µm per pixel; overrides what the file of `src` says, and serves other images that do not say
 * - `gene`: symbols of the genes to show, up to four, separated by commas
 * - `level`: `bin`, `spot` or `region`
 * - `device`: `auto`, `gpu` or `cpu`
 * - `colormap`: `viridis`, `cividis` or `magma`
 * - `theme`: `light` or `dark`; without it the user's preference
 * - `whole-page`: files may be dropped and pasted anywhere in the document
 * - `offline`: registers the service worker beside this module, for a page of its own
 *
 * Set by the element: `data-state`, see {@link MagnetViewer.state}.
 *
 * CSS properties: `--magnet-height` (of the wide layout), `--magnet-accent`, `--magnet-accent-ink`,
 * `--magnet-background`, `--magnet-surface`, `--magnet-ink`, `--magnet-soft-ink`, `--magnet-rule`, `--magnet-font`,
 * `--magnet-mono-font`, `--magnet-radius`.
 */
export class MagnetViewer extends HTMLElement {
  /** What the viewer is doing; the same as its attribute `data-state`. */
  readonly state: "loading" | "ready" | "running" | "done" | "partial" | "error" | "disposed";
  /**
   * Opens an image: a PNG, JPEG or TIFF as a blob, or its address. Resolves when it is decoded; a prediction then starts
   * by itself as soon as there is a model and a pixel size. `umPerPx` overrides what the file says. A slide with several
   * resolutions, or one that is too large for memory, is opened where it lies: it resolves when it can be looked at, and
   * what is predicted is the region that the user or the attribute `region` chooses. Where it rejects, what was open
   * before stays.
   */
  open(source: Blob | URL | string, options?: { umPerPx?: number; name?: string }): Promise<ImageSummary>;
  /**
   * Opens a bundle: as a blob, by its address, or by its id in the catalogue. Resolves when the model is there. Where it
   * rejects, the model that was open before stays, with its map.
   */
  openModel(source: Blob | URL | string, options?: { name?: string }): Promise<void>;
  /** Predicts, or continues a partial map. Resolves when the run has ended. */
  predict(): Promise<ResultDetail>;
  /** Ends the run and keeps what is done. Resolves when it has ended; at once where none goes on. */
  cancel(): Promise<ResultDetail | undefined>;
  /** One gene's values at a level, in the order of the exported table; NaN where none was predicted. */
  values(level: Level, gene: string): Promise<Float32Array>;
  /**
   * Ends the engine and gives its memory back. Also done when the element leaves the document. A later call of another
   * method begins anew from the attributes.
   */
  dispose(): Promise<void>;

  addEventListener<K extends keyof MagnetViewerEventMap>(
    type: K,
    listener: (this: MagnetViewer, event: MagnetViewerEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof MagnetViewerEventMap>(
    type: K,
    listener: (this: MagnetViewer, event: MagnetViewerEventMap[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | EventListenerOptions,
  ): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "magnet-viewer": MagnetViewer;
  }
}
