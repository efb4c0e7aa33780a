// PNG files made by hand, right and wrong ones.
import { crc32, deflateSync } from "node:zlib";

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const check = Buffer.alloc(4);
  check.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, check]);
}

function header(width, height) {
  const data = Buffer.alloc(13);
  data.writeUInt32BE(width, 0);
  data.writeUInt32BE(height, 4);
  data.set([8, 2, 0, 0, 0], 8); // 8 bits, RGB, no interlacing
  return chunk("IHDR", data);
}

/** A PNG of RGB values, row by row. */
export function encodePng(width, height, rgb) {
  const rows = Buffer.alloc(height * (1 + 3 * width));
  for (let row = 0; row < height; row += 1) {
    Buffer.from(rgb.buffer, rgb.byteOffset + row * 3 * width, 3 * width).copy(rows, row * (1 + 3 * width) + 1);
  }
  return Buffer.concat([SIGNATURE, header(width, height), chunk("IDAT", deflateSync(rows, { level: 1 })), chunk("IEND", Buffer.alloc(0))]);
}

/** A file of a few bytes that claims to be `side` pixels wide and high. */
export function claimingPng(side) {
  return Buffer.concat([SIGNATURE, header(side, side), chunk("IDAT", deflateSync(Buffer.alloc(64))), chunk("IEND", Buffer.alloc(0))]);
}

/** Width and height that a PNG's header gives. */
export function pngSize(bytes) {
  if (!bytes.subarray(0, 8).equals(SIGNATURE)) throw new Error("not a PNG");
  return { width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20) };
}
