//! The TypeScript types of [`super::api`]: what the objects hold that cross the border.

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
export type Level = "bin" | "spot" | "region";
export type DeviceChoice = "auto" | "gpu" | "cpu";
export type ExportKind = "csv" | "h5ad" | "png" | "overlay" | "geojson" | "provenance";
export type ErrorCode = "input" | "deviceLost" | "outOfMemory" | "noDevice" | "state" | "internal";
export type PerLevel<T> = Record<Level, T>;

/** What every rejected promise and every thrown error is. */
export interface MagnetError extends Error {
  /** What kind of thing went wrong. */
  code: ErrorCode;
}

export interface EngineOptions {
  /** "auto" takes a GPU that WebGPU offers and that is no software adapter, else the CPU. */
  device?: DeviceChoice;
}

/** What runs the model, and why. */
export interface DeviceReport {
  device: "gpu" | "cpu";
  name: string;
  reason: string;
  software: boolean;
  maxBindingBytes: number;
}

/** What a level of a model is. */
export interface LevelSummary {
  /** Side of what one value describes, in µm. */
  tileUm: number;
  /** Side of the tissue that the level sees, in µm. */
  patchUm: number;
  predicted: boolean;
  /** Held-out Pearson of each gene; empty without held-out scores. */
  genePearson: (number | undefined)[];
  pccGeneMean?: number;
}

/** What a model is. */
export interface ModelSummary {
  name: string;
  /** Of the file. */
  sha256: string;
  size: number;
  codeVersion: string;
  /** Gene symbols; a gene is named by its position here. */
  symbols: string[];
  ids: string[];
  /** Of the values. */
  unit: string;
  levels: PerLevel<LevelSummary>;
  trainingSlides: string[];
  heldOutSlides: string[];
  selectedOnValidation: boolean;
  commandLine: string[];
}

/** What an image is, with a small opaque RGBA picture of it. */
export interface ImageSummary {
  name: string;
  widthPx: number;
  heightPx: number;
  /** µm per pixel, where the file or the caller gave it; nothing can be predicted without. */
  umPerPx?: number;
  embeddedUmPerPx?: number;
  sha256: string;
  previewPx: [number, number];
  preview?: Uint8Array;
}

/** How far a prediction has come. */
export interface Progress {
  /** Tiles encoded and bins predicted. */
  done: number;
  total: number;
  binsDone: number;
  binsTotal: number;
  /** Seconds that the run should take in all, as measured before it. */
  estimatedS?: number;
}

export interface PredictOptions {
  /** Called after every step. `values` and `export` may be called from it: they give what is there so far. */
  onProgress?: (progress: Progress) => void;
  /** Ends the run when it is aborted; the promise resolves with `complete: false`, and what is done stays. */
  signal?: AbortSignal;
  /** Core bins of a block, at most (256). Changes memory and speed, never a prediction. */
  blockBins?: number;
  /** Pixels of the patches that pass an encoder together; 0 lets the engine choose. Likewise. */
  chunkPixels?: number;
}

export interface PredictResult {
  complete: boolean;
  seconds: number;
  /** How many values each level has. */
  nodes: PerLevel<number>;
  /** Centres in pixels of the image, x and y in turn: bins, then spots, then regions. */
  centersPx: Float32Array;
  /** Standard deviation of each gene at each level. */
  deviation: PerLevel<number[]>;
}

export interface ExportOptions {
  /** "bin" if left out. */
  level?: Level;
  /** Positions of genes: the first one is drawn (0 if left out); GeoJSON holds these (all if left out). */
  genes?: number[];
  style?: {
    colorMap: "viridis" | "cividis" | "magma";
    /** 0 (only the image) to 1 (only the map). */
    opacity: number;
    /** Values of the lowest and the highest colour. */
    low: number;
    high: number;
  };
}

export interface ExportedFile {
  name: string;
  mediaType: string;
  bytes: Uint8Array;
}
"#;
