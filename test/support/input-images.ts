import { crc32, deflateSync } from "node:zlib";
import sharp from "sharp";

/*
 * Images as callers send them: usual, odd and hostile ones.
 */

/** A gradient with a hard edge, so that a swapped axis or channel shows. */
export function gradientPixels(width: number, height: number): Uint8Array {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      data.set([(255 * x) / width, (255 * y) / height, x < width / 2 ? 0 : 255], (y * width + x) * 3);
    }
  }
  return data;
}

/** The gradient, to be encoded. */
export function gradient(width = 96, height = 64) {
  return sharp(gradientPixels(width, height), { raw: { width, height, channels: 3 } });
}

/** A whole PNG of about so many bytes, whose pixels cannot be compressed. */
export async function pngOfSize(bytes: number): Promise<Uint8Array> {
  const side = Math.floor(Math.sqrt(bytes / 3));
  const data = new Uint8Array(side * side * 3);
  let state = 1;
  for (let i = 0; i < data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    data[i] = state >>> 24;
  }
  return sharp(data, { raw: { width: side, height: side, channels: 3 } })
    .png({ compressionLevel: 0 })
    .toBuffer();
}

/** A file of 3 kB whose header promises 30,000 × 30,000 pixels. */
export function bomb(): Uint8Array {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(30_000, 0);
  header.writeUInt32BE(30_000, 4);
  header.set([8, 2], 8);
  return Buffer.concat([
    Buffer.from("\x89PNG\r\n\x1a\n", "latin1"),
    pngChunk("IHDR", header),
    pngChunk("IDAT", deflateSync(Buffer.alloc(3_000_000))),
    pngChunk("IEND", Buffer.alloc(0)),
  ]);
}

/** A PNG with a chunk after its header, such as the text of a camera or of another program. */
export async function pngWithChunk(type: string, data: Uint8Array): Promise<Uint8Array> {
  const png = await gradient().png().toBuffer();
  const headerEnd = 8 + 12 + 13;
  return Buffer.concat([png.subarray(0, headerEnd), pngChunk(type, data), png.subarray(headerEnd)]);
}

function pngChunk(type: string, data: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const [length, checksum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  checksum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, checksum]);
}

/** Three frames, of which the gradient is the first. */
export async function animatedWebp(): Promise<Uint8Array> {
  const frame = gradientPixels(64, 64);
  const frames = Buffer.concat([frame, Buffer.alloc(frame.length), Buffer.alloc(frame.length, 99)]);
  return sharp(frames, { raw: { width: 64, height: 192, channels: 3, pageHeight: 64 } })
    .webp({ lossless: true })
    .toBuffer();
}

export const svg = Buffer.from('<!-- a --><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>');
