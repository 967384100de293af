/**
 * Texts in PNG files, as `iTXt` chunks. Reading works in browsers too.
 *
 * @see https://www.w3.org/TR/png-3/#11iTXt
 */

const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);

/** Length, type and checksum of a chunk, in bytes. */
const chunkOverhead = 12;

/** Chunks that are looked at: encoders write a dozen before the image data. */
const maxChunks = 1_000;
/** Largest text that is read, in bytes. */
const maxTextBytes = 256 * 1024;

/** Computes the CRC-32 of bytes. Node has one; browsers, which only read, need none. */
export type Crc32 = (bytes: Uint8Array) => number;

/**
 * Returns the PNG file with texts before its image data. The pixels are unchanged.
 *
 * @param texts by keyword, which is Latin-1, 1 to 79 characters.
 * @throws Error if the bytes are not a PNG file.
 */
export function addPngTexts(png: Uint8Array, texts: ReadonlyMap<string, string>, crc32: Crc32): Uint8Array {
  const dataAt = [...chunksOf(png)].find(({ type }) => type === "IDAT")?.start;
  if (dataAt === undefined) {
    throw new Error("not a PNG file");
  }
  const chunks = [...texts].map(([keyword, text]) => textChunk(keyword, text, crc32));
  const added = chunks.reduce((sum, { length }) => sum + length, 0);
  const result = new Uint8Array(png.length + added);
  result.set(png.subarray(0, dataAt));
  let at = dataAt;
  for (const chunk of chunks) {
    result.set(chunk, at);
    at += chunk.length;
  }
  result.set(png.subarray(dataAt), at);
  return result;
}

/** Returns the uncompressed texts before the image data of a PNG file, by keyword; none for other files. */
export function readPngTexts(png: Uint8Array): ReadonlyMap<string, string> {
  const texts = new Map<string, string>();
  for (const { type, body } of chunksOf(png)) {
    const text = type === "iTXt" && body.length <= maxTextBytes ? parseText(body) : undefined;
    if (text !== undefined) {
      texts.set(...text);
    }
  }
  return texts;
}

interface Chunk {
  /** Offset of its first byte. */
  readonly start: number;
  readonly type: string;
  readonly body: Uint8Array;
}

/** The chunks up to the image data, or to the first one that is cut off. Made one by one: a hostile file has millions. */
function* chunksOf(png: Uint8Array): Generator<Chunk> {
  if (!signature.every((byte, index) => png[index] === byte)) {
    return;
  }
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  let start = signature.length;
  for (let count = 0; count < maxChunks && start + chunkOverhead <= png.length; count++) {
    const length = view.getUint32(start);
    const end = start + chunkOverhead + length;
    if (end > png.length) {
      return;
    }
    const type = String.fromCharCode(...png.subarray(start + 4, start + 8));
    yield { start, type, body: png.subarray(start + 8, end - 4) };
    if (type === "IDAT") {
      return;
    }
    start = end;
  }
}

function textChunk(keyword: string, text: string, crc32: Crc32): Uint8Array {
  // Uncompressed, in no language.
  const body = new TextEncoder().encode(`iTXt${keyword}\0\0\0\0\0${text}`);
  const chunk = new Uint8Array(body.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, body.length - 4);
  chunk.set(body, 4);
  view.setUint32(body.length + 4, crc32(body));
  return chunk;
}

function parseText(body: Uint8Array): [keyword: string, text: string] | undefined {
  const keywordEnd = body.indexOf(0);
  const isCompressed = body[keywordEnd + 1] !== 0;
  const languageEnd = body.indexOf(0, keywordEnd + 3);
  const translatedEnd = body.indexOf(0, languageEnd + 1);
  if (keywordEnd < 1 || isCompressed || languageEnd < 0 || translatedEnd < 0) {
    return undefined;
  }
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return [decode(body.subarray(0, keywordEnd)), decode(body.subarray(translatedEnd + 1))];
}
