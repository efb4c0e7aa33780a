/** The engine without a page: one worker, asked one thing at a time. */
export class MagnetEngine {
  constructor();
  /** Chooses a device. Resolves to what was chosen, and why. */
  start(device?: "auto" | "gpu" | "cpu"): Promise<DeviceReport>;
  /** Opens a bundle. An ArrayBuffer is handed over, not copied. */
  openModel(source: ArrayBuffer | Blob, options?: { name?: string }): Promise<ModelSummary>;
  /** Opens a PNG, JPEG or TIFF. An ArrayBuffer is handed over, not copied. */
  openImage(source: ArrayBuffer | Blob, options?: { name?: string; umPerPx?: number }): Promise<ImageSummary>;
  /** Sets the pixel size of the open image, in µm. */
  setPixelSize(umPerPx: number): Promise<ImageSummary>;
  /** Predicts the open image with the open model; neither option changes a prediction. */
  predict(options?: {
    /** Bins of a block, at most. */
    blockBins?: number;
    /** Pixels that pass an encoder together; 0 lets the engine choose. */
    chunkPixels?: number;
    onProgress?: (progress: RunProgress) => void;
  }): Promise<{ complete: boolean; seconds: number }>;
  /** Ends a prediction after its current step. */
  cancel(): void;
  /** The values of the gene at a position in the model's `symbols`; NaN where there is none. */
  values(level: Level, gene: number): Promise<{ values: Float32Array; low: number; high: number }>;
  /** Centres of a level's values in pixels of the image, x and y in turn. */
  centers(level: Level): Float32Array | undefined;
  /** Makes a file. Tables hold all genes, pictures the first of `genes`, GeoJSON those given. */
  export(
    kind: "csv" | "h5ad" | "png" | "overlay" | "geojson" | "provenance",
    options?: {
      level?: Level;
      genes?: number[];
      colorMap?: "viridis" | "cividis" | "magma";
      opacity?: number;
      low?: number;
      high?: number;
    },
  ): Promise<File>;
  /** Ends the engine and gives its memory back. */
  dispose(): void;
}

/** Why a request could not be met. */
export class EngineError extends Error {
  code: "input" | "deviceLost" | "outOfMemory" | "noDevice" | "state" | "internal";
}

export type Level = "bin" | "spot" | "region";

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
  /** Side of the picture of that tissue, in pixels. */
  patchPx: number;
  predicted: boolean;
  /** Held-out Pearson of each gene; empty without held-out scores. */
  genePearson: (number | null | undefined)[];
  pccGeneMean?: number;
}

/** What a model is. */
export interface ModelSummary {
  name: string;
  sha256: string;
  size: number;
  codeVersion: string;
  symbols: string[];
  ids: string[];
  unit: string;
  levels: Record<Level, LevelSummary>;
  trainingSlides: string[];
  heldOutSlides: string[];
  selectedOnValidation: boolean;
  commandLine: string[];
}

/** What an image is. */
export interface ImageSummary {
  name: string;
  widthPx: number;
  heightPx: number;
  umPerPx?: number;
  embeddedUmPerPx?: number;
  /** Of the file; missing for a slide, which is not read whole. */
  sha256?: string | null;
  previewPx: [number, number];
}

/** How far a run has come. */
export interface RunProgress {
  done: number;
  total: number;
  binsDone: number;
  binsTotal: number;
}
