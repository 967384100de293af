import assert from "node:assert/strict";
import test from "node:test";
import sharp from "sharp";
import { encodeImage } from "../../src/image/encode-image.js";
import { contentTypeOf, formatOfContentType, parseDataUri, toDataUri } from "../../src/image/image-format.js";

/** A gradient with a hard edge, 24×16, so that a swapped axis or channel shows. */
function gradient() {
  const width = 24;
  const height = 16;
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      data.set([x * 10, y * 15, x < 12 ? 0 : 255], (y * width + x) * 3);
    }
  }
  return { data, width, height };
}

test("PNG keeps every pixel and is the same each time", async () => {
  const pixels = gradient();
  const first = await encodeImage(pixels, "png");
  const { data, info } = await sharp(first.bytes).raw().toBuffer({ resolveWithObject: true });
  assert.deepEqual([info.width, info.height, info.channels], [24, 16, 3]);
  assert.deepEqual(new Uint8Array(data), pixels.data);
  assert.deepEqual((await encodeImage(pixels, "png")).bytes, first.bytes);
});

for (const format of ["jpeg", "webp"] as const) {
  test(`${format} image has its type and is close to the pixels`, async () => {
    const pixels = gradient();
    const encoded = await encodeImage(pixels, format);
    assert.equal((await sharp(encoded.bytes).metadata()).format, format);
    const { data } = await sharp(encoded.bytes).raw().toBuffer({ resolveWithObject: true });
    const error = data.reduce((sum, value, i) => sum + Math.abs(value - (pixels.data[i] ?? 0)), 0) / data.length;
    assert.ok(error < 12, `mean error ${error}`);
  });
}

test("quality decides the size of lossy images, 90 by default, and does not change a PNG", async () => {
  const pixels = gradient();
  for (const format of ["jpeg", "webp"] as const) {
    const sizeAt = async (quality?: number) => (await encodeImage(pixels, format, { quality })).bytes.length;
    assert.equal(await sizeAt(), await sizeAt(90));
    assert.ok((await sizeAt(10)) < (await sizeAt(90)), format);
  }
  assert.deepEqual((await encodeImage(pixels, "png", { quality: 1 })).bytes, (await encodeImage(pixels, "png")).bytes);
});

test("pixels of the wrong length are rejected with the numbers", async () => {
  await assert.rejects(
    encodeImage({ data: new Uint8Array(10), width: 2, height: 2 }, "png"),
    /2×2 need 12 bytes, got 10/,
  );
});

test("data URI round trip keeps the image, and other text is rejected", async () => {
  const image = await encodeImage(gradient(), "webp");
  const uri = toDataUri(image);
  assert.match(uri, /^data:image\/webp;base64,[A-Za-z0-9+/]+=*$/);
  const parsed = parseDataUri(uri);
  assert.equal(parsed?.format, "webp");
  assert.deepEqual(new Uint8Array(parsed?.bytes ?? []), new Uint8Array(image.bytes));
  for (const other of [
    "",
    "data:",
    "data:image/png,x",
    "data:text/html;base64,PGI+",
    "http://host/a.png",
    "data:image/svg+xml;base64,AA==",
  ]) {
    assert.equal(parseDataUri(other), undefined, other);
  }
});

test("formats and media types map to each other", () => {
  for (const format of ["png", "jpeg", "webp"] as const) {
    assert.equal(formatOfContentType(contentTypeOf(format)), format);
  }
  assert.equal(formatOfContentType("image/gif"), undefined);
});
