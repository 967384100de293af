import assert from "node:assert/strict";
import test from "node:test";
import { crc32 } from "node:zlib";
import sharp from "sharp";
import { encodeImage } from "../../src/image/encode-image.js";
import { addPngTexts, readPngTexts } from "../../src/image/png-text.js";

const pixels = { data: new Uint8Array(4 * 4 * 3).map((_, index) => index * 5), width: 4, height: 4 };
const texts = new Map([
  ["parameters", "a red heart\nSteps: 4"],
  ["throughline", '{"prompt": "ein Haus, 家"}'],
]);

test("texts of a PNG file are read back, also by libvips, and its pixels are unchanged", async () => {
  const { bytes } = await encodeImage(pixels, "png", { texts });
  assert.deepEqual(readPngTexts(bytes), texts);
  const { comments } = await sharp(bytes).metadata();
  assert.deepEqual(new Map(comments?.map(({ keyword, text }) => [keyword, text])), texts);
  const decoded = await sharp(bytes).raw().toBuffer();
  assert.deepEqual(new Uint8Array(decoded), pixels.data);
});

test("JPEG and WebP files get no texts", async () => {
  for (const format of ["jpeg", "webp"] as const) {
    assert.deepEqual((await encodeImage(pixels, format, { texts })).bytes, (await encodeImage(pixels, format)).bytes);
  }
});

test("a PNG file that is cut anywhere gives the texts before the cut, and anything else gives none", async () => {
  const { bytes } = await encodeImage(pixels, "png", { texts });
  for (let length = 0; length < bytes.length; length++) {
    for (const [keyword, text] of readPngTexts(bytes.subarray(0, length))) {
      assert.equal(text, texts.get(keyword));
    }
  }
  const other = await encodeImage(pixels, "jpeg");
  assert.equal(readPngTexts(other.bytes).size, 0);
  assert.throws(() => addPngTexts(other.bytes, texts, crc32), /not a PNG file/);
});
