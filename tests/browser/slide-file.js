// Slides for the tests, made on the fly: pyramidal BigTIFF files of many gigabytes that take a few megabytes of disk,
// because most of the file is a hole and the tiles share their data. All offsets lie beyond 4 GiB.
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { deflateSync } from "node:zlib";

export const TILE = 512;
/** Tiles of a block, across and down: tissue or glass as a whole, so that coarse levels need few kinds of tiles. */
const BLOCK = 16;
const GLASS = 0xf5;
/** Where the data begins: every offset needs more than 32 bits. */
const BASE = 4.5 * 2 ** 30;

/**
 * A slide of `blocks` × `blocks` blocks of 8192 px, with tissue where `isTissue(column, row)` says so: the square of
 * 1024 × 1024 RGB pixels `tissue`, again and again.
 */
export class SparseSlide {
  constructor({ tissue, blocksAcross = 12, blocksDown = 10, isTissue, umPerPx = 0.5 }) {
    Object.assign(this, { tissue, blocksAcross, blocksDown, isTissue, umPerPx });
    this.width = blocksAcross * BLOCK * TILE;
    this.height = blocksDown * BLOCK * TILE;
  }

  /** RGB values of a rectangle at full resolution. */
  pixels(left, top, width, height) {
    const rgb = Buffer.alloc(width * height * 3, GLASS);
    const side = BLOCK * TILE;
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        const [column, row] = [left + x, top + y];
        if (!this.isTissue(Math.floor(column / side), Math.floor(row / side))) continue;
        const from = ((row % 1024) * 1024 + (column % 1024)) * 3;
        this.tissue.copy(rgb, (y * width + x) * 3, from, from + 3);
      }
    }
    return rgb;
  }

  write(path) {
    const file = openSync(path, "w");
    let at = BASE;
    const put = (bytes) => {
      const offset = at;
      writeSync(file, bytes, 0, bytes.length, offset);
      at += bytes.length + (bytes.length % 2);
      return offset;
    };
    const tile = (rgb) => {
      const packed = deflateSync(rgb, { level: 6 });
      return { offset: put(packed), count: packed.length };
    };
    const glass = tile(Buffer.alloc(TILE * TILE * 3, GLASS));
    const levels = [];
    for (const downsample of [1, 4, 16]) {
      const tissue = shrunk(this.tissue, 1024, 1024, downsample);
      const side = 1024 / downsample;
      const kinds = [0, 1, 2, 3].map((kind) => tile(repeated(tissue, side, (kind % 2) * TILE, (kind >> 1) * TILE)));
      const perBlock = BLOCK / downsample;
      const across = (this.width / downsample) / TILE;
      const down = (this.height / downsample) / TILE;
      const tiles = [];
      for (let row = 0; row < down; row += 1) {
        for (let column = 0; column < across; column += 1) {
          const isTissue = this.isTissue(Math.floor(column / perBlock), Math.floor(row / perBlock));
          tiles.push(isTissue ? kinds[(column % 2) + 2 * (row % 2)] : glass);
        }
      }
      levels.push({ width: this.width / downsample, height: this.height / downsample, tiles });
    }
    levels.push(this.#smallest(tile, 64));

    let next = 0;
    for (const level of levels.toReversed()) next = put(this.#directory(level, put, level === levels[0], next));
    const header = Buffer.alloc(16);
    header.write("II", 0, "latin1");
    header.writeUInt16LE(43, 2);
    header.writeUInt16LE(8, 4);
    header.writeBigUInt64LE(BigInt(next), 8);
    writeSync(file, header, 0, 16, 0);
    this.bytes = Math.max(at, 5.2e9);
    ftruncateSync(file, this.bytes);
    closeSync(file);
    return path;
  }

  /** A level whose tiles hold parts of several blocks. */
  #smallest(tile, downsample) {
    const tissue = shrunk(this.tissue, 1024, 1024, downsample);
    const side = 1024 / downsample;
    const [width, height] = [this.width / downsample, this.height / downsample];
    const block = (BLOCK * TILE) / downsample;
    const tiles = [];
    for (let top = 0; top < height; top += TILE) {
      for (let left = 0; left < width; left += TILE) {
        const rgb = Buffer.alloc(TILE * TILE * 3, GLASS);
        for (let y = 0; y < TILE; y += 1) {
          for (let x = 0; x < TILE; x += 1) {
            const [column, row] = [left + x, top + y];
            if (!this.isTissue(Math.floor(column / block), Math.floor(row / block))) continue;
            const from = ((row % side) * side + (column % side)) * 3;
            tissue.copy(rgb, (y * TILE + x) * 3, from, from + 3);
          }
        }
        tiles.push(tile(rgb));
      }
    }
    return { width, height, tiles };
  }

  #directory({ width, height, tiles }, put, isFull, next) {
    const numbers = (values) => {
      const bytes = Buffer.alloc(8 * values.length);
      values.forEach((value, index) => bytes.writeBigUInt64LE(BigInt(value), 8 * index));
      return BigInt(put(bytes));
    };
    const perCm = BigInt(Math.round(10_000 / this.umPerPx)) | (1n << 32n); // numerator, then denominator 1
    const entries = [
      [254, 4, 1, BigInt(isFull ? 0 : 1)],
      [256, 4, 1, BigInt(width)],
      [257, 4, 1, BigInt(height)],
      [258, 3, 3, 0x0008_0008_0008n],
      [259, 3, 1, 8n],
      [262, 3, 1, 2n],
      [277, 3, 1, 3n],
      ...(isFull && this.umPerPx ? [[282, 5, 1, perCm], [283, 5, 1, perCm]] : []),
      [284, 3, 1, 1n],
      ...(isFull && this.umPerPx ? [[296, 3, 1, 3n]] : []),
      [322, 3, 1, BigInt(TILE)],
      [323, 3, 1, BigInt(TILE)],
      [324, 16, tiles.length, numbers(tiles.map(({ offset }) => offset))],
      [325, 16, tiles.length, numbers(tiles.map(({ count }) => count))],
    ];
    const bytes = Buffer.alloc(8 + 20 * entries.length + 8);
    bytes.writeBigUInt64LE(BigInt(entries.length), 0);
    entries.forEach(([tag, type, count, value], index) => {
      const start = 8 + 20 * index;
      bytes.writeUInt16LE(tag, start);
      bytes.writeUInt16LE(type, start + 2);
      bytes.writeBigUInt64LE(BigInt(count), start + 4);
      bytes.writeBigUInt64LE(value, start + 12);
    });
    bytes.writeBigUInt64LE(BigInt(next), 8 + 20 * entries.length);
    return bytes;
  }
}

/** Means of squares of `factor` × `factor` pixels. */
function shrunk(rgb, width, height, factor) {
  if (factor === 1) return rgb;
  const [across, down] = [width / factor, height / factor];
  const out = Buffer.alloc(across * down * 3);
  for (let y = 0; y < down; y += 1) {
    for (let x = 0; x < across; x += 1) {
      for (let channel = 0; channel < 3; channel += 1) {
        let sum = 0;
        for (let dy = 0; dy < factor; dy += 1) {
          for (let dx = 0; dx < factor; dx += 1) sum += rgb[((y * factor + dy) * width + x * factor + dx) * 3 + channel];
        }
        out[(y * across + x) * 3 + channel] = Math.round(sum / factor ** 2);
      }
    }
  }
  return out;
}

/** A tile of a pattern that repeats every `side` pixels, from a place on. */
function repeated(rgb, side, left, top) {
  const out = Buffer.alloc(TILE * TILE * 3);
  for (let y = 0; y < TILE; y += 1) {
    for (let x = 0; x < TILE; x += 1) {
      const from = (((top + y) % side) * side + ((left + x) % side)) * 3;
      rgb.copy(out, (y * TILE + x) * 3, from, from + 3);
    }
  }
  return out;
}
