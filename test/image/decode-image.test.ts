import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { deflateSync } from "node:zlib";
import sharp from "sharp";
import { createImageDecoder, InputImageError } from "../../src/image/decode-image.js";
import { animatedWebp, bomb, gradient, gradientPixels, pngWithChunk, svg } from "../support/input-images.js";

const { inspect, decode } = createImageDecoder();
const { signal } = new AbortController();

async function read(bytes: Uint8Array, width = 96, height = 64): Promise<Uint8Array> {
  await inspect(bytes);
  const pixels = await decode(bytes, { width, height }, signal);
  assert.deepEqual([pixels.width, pixels.height, pixels.data.length], [width, height, width * height * 3]);
  return pixels.data;
}

async function rejection(bytes: Uint8Array): Promise<string> {
  const error = await read(bytes).then(
    () => assert.fail("it is read"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof InputImageError, String(error));
  return error.message;
}

function largestDifference(one: Uint8Array, other: Uint8Array): number {
  assert.equal(one.length, other.length);
  return one.reduce((most, value, i) => Math.max(most, Math.abs(value - (other[i] ?? Number.NaN))), 0);
}

describe("image to start from", () => {
  const pixels = gradientPixels(96, 64);

  it("PNG and lossless WebP of the size asked for keep each pixel", async () => {
    assert.deepEqual(await read(await gradient().png().toBuffer()), pixels);
    assert.deepEqual(await read(await gradient().webp({ lossless: true }).toBuffer()), pixels);
  });

  it("JPEG comes close", async () => {
    const jpeg = await gradient().jpeg({ quality: 100, chromaSubsampling: "4:4:4" }).toBuffer();
    assert.ok(largestDifference(await read(jpeg), pixels) <= 4);
  });

  it("progressive JPEG and interlaced PNG are read", async () => {
    const jpeg = await gradient().jpeg({ quality: 100, chromaSubsampling: "4:4:4", progressive: true }).toBuffer();
    assert.ok(largestDifference(await read(jpeg), pixels) <= 4);
    assert.deepEqual(await read(await gradient().png({ progressive: true }).toBuffer()), pixels);
  });

  it("wider image is cropped in the middle, and a higher one too", async () => {
    const wide = sharp(gradientPixels(100, 50), { raw: { width: 100, height: 50, channels: 3 } });
    const middle = await wide.clone().extract({ left: 25, top: 0, width: 50, height: 50 }).raw().toBuffer();
    assert.deepEqual(Buffer.from(await read(await wide.png().toBuffer(), 50, 50)), middle);
    const high = sharp(gradientPixels(50, 100), { raw: { width: 50, height: 100, channels: 3 } });
    const centre = await high.clone().extract({ left: 0, top: 25, width: 50, height: 50 }).raw().toBuffer();
    assert.deepEqual(Buffer.from(await read(await high.png().toBuffer(), 50, 50)), centre);
  });

  it("image is scaled up and down", async () => {
    const png = await gradient().png().toBuffer();
    const small = await read(png, 48, 32);
    assert.ok(largestDifference(await read(png, 96, 64), pixels) === 0);
    // Away from the hard edge, half the size is every second pixel.
    for (const [x, y] of [
      [4, 4],
      [10, 25],
      [44, 16],
    ] as const) {
      const at = (y * 48 + x) * 3;
      const [red, green] = [(255 * (2 * x + 0.5)) / 96, (255 * (2 * y + 0.5)) / 64];
      assert.ok(Math.abs((small[at] ?? 0) - red) <= 2 && Math.abs((small[at + 1] ?? 0) - green) <= 2);
    }
    assert.equal((await read(png, 256, 192)).length, 256 * 192 * 3);
  });

  it("image of 1 × 1 gives its colour everywhere", async () => {
    const one = await sharp(Buffer.from([10, 20, 30]), { raw: { width: 1, height: 1, channels: 3 } })
      .png()
      .toBuffer();
    const data = await read(one, 64, 64);
    assert.ok(data.every((value, i) => value === [10, 20, 30][i % 3]));
  });

  it("EXIF orientation is honoured, and the size is that of the upright image", async () => {
    const jpeg = await gradient(64, 32).jpeg({ quality: 100 }).withMetadata({ orientation: 6 }).toBuffer();
    assert.deepEqual(await inspect(jpeg), { width: 32, height: 64 });
    const upright = await sharp(jpeg).rotate().raw().toBuffer();
    assert.deepEqual(Buffer.from(await read(jpeg, 32, 64)), upright);
  });

  it("transparency is shown on white", async () => {
    const clear = sharp({ create: { width: 8, height: 8, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0 } } });
    assert.ok((await read(await clear.clone().png().toBuffer(), 8, 8)).every((value) => value === 255));
    assert.ok((await read(await clear.clone().webp({ lossless: true }).toBuffer(), 8, 8)).every((v) => v === 255));
  });

  it("16-bit, grey, palette and CMYK images become 8-bit sRGB", async () => {
    const deep = Uint16Array.from(pixels, (value) => value * 257);
    const sixteen = await sharp(deep, { raw: { width: 96, height: 64, channels: 3 } })
      .toColourspace("rgb16")
      .png()
      .toBuffer();
    assert.equal((await sharp(sixteen).metadata()).depth, "ushort");
    assert.ok(largestDifference(await read(sixteen), pixels) <= 1);

    const grey = await gradient().toColourspace("b-w").png().toBuffer();
    assert.equal((await sharp(grey).metadata()).channels, 1);
    const shades = await read(grey);
    assert.ok(shades.every((value, i) => value === shades[i - (i % 3)]));

    const palette = await gradient().png({ palette: true }).toBuffer();
    assert.ok((await sharp(palette).metadata()).isPalette);
    assert.ok(largestDifference(await read(palette), pixels) <= 40);

    const cmyk = await gradient().toColourspace("cmyk").jpeg({ quality: 100 }).toBuffer();
    assert.equal((await sharp(cmyk).metadata()).space, "cmyk");
    const printed = await read(cmyk);
    const mean = printed.reduce((sum, value, i) => sum + Math.abs(value - (pixels[i] ?? 0)), 0) / printed.length;
    assert.ok(mean < 40, `the mean difference is ${mean}`);
  });

  it("embedded colour profile is applied", async () => {
    const wide = await gradient().withIccProfile("p3").png().toBuffer();
    assert.ok((await sharp(wide).metadata()).hasProfile);
    // Dark colours lose some levels on the way to the other profile.
    assert.ok(largestDifference(await read(wide), pixels) <= 12);
    const stored = await sharp(wide, { ignoreIcc: true }).raw().toBuffer();
    assert.ok(largestDifference(stored, pixels) > 100);
  });

  it("of an animated image, the first frame is taken", async () => {
    const animated = await animatedWebp();
    assert.equal((await sharp(animated).metadata()).pages, 3);
    assert.deepEqual(await read(animated, 64, 64), gradientPixels(64, 64));
    // An animated PNG has its frames in chunks that plain decoders do not know.
    const control = await pngWithChunk("acTL", Buffer.from([0, 0, 0, 3, 0, 0, 0, 0]));
    assert.deepEqual(await read(control), pixels);
  });

  it("text that inflates to 500 MB costs no memory", async () => {
    const text = Buffer.concat([Buffer.from("Comment\0\0"), deflateSync(Buffer.alloc(500_000_000))]);
    const png = await pngWithChunk("zTXt", text);
    const before = process.memoryUsage().rss;
    assert.deepEqual(await read(png), pixels);
    assert.ok(process.memoryUsage().rss - before < 200e6);
  });

  it("image of more than 2,048 pixels a side is rejected by its header", async () => {
    const message = await rejection(bomb());
    assert.equal(message, "the image has 30000×30000 pixels, and at most 2048 a side are accepted; scale it down");
    const long = await gradient(2049, 1).png().toBuffer();
    assert.match(await rejection(long), /^the image has 2049×1 pixels/);
    const longest = await gradient(2048, 1).png().toBuffer();
    assert.equal((await read(longest, 64, 64)).length, 64 * 64 * 3);
  });

  it("pixels beyond the limit are not decoded even without a look at the header", async () => {
    await assert.rejects(decode(bomb(), { width: 8, height: 8 }, signal), InputImageError);
  });

  const others: readonly (readonly [string, () => Promise<Uint8Array> | Uint8Array])[] = [
    ["is SVG", () => svg],
    ["is GIF", () => gradient().gif().toBuffer()],
    ["is TIFF", () => gradient().tiff().toBuffer()],
    ["is AVIF", () => gradient().avif().toBuffer()],
    ["is PDF", () => Buffer.from("%PDF-1.7\n%âãÏÓ\n")],
    ["is BMP", () => Buffer.from("BM\x36\0\0\0")],
    ["is XML or HTML", () => Buffer.from("<!DOCTYPE html><title>404</title>")],
    ["is a data: URI, not its bytes", () => Buffer.from("data:image/png;base64,iVBORw0KGgo=")],
    ["is of an unknown format", () => Buffer.from("a red heart")],
    ["is of an unknown format", () => Buffer.from("\0")],
  ];
  for (const [found, make] of others) {
    it(`file that ${found} is rejected by its content`, async () => {
      assert.equal(await rejection(await make()), `the file ${found}; send PNG, JPEG or WebP`);
    });
  }

  for (const format of ["png", "jpeg", "webp"] as const) {
    it(`${format} that is truncated or damaged is rejected`, async () => {
      const whole = await gradient(512, 512).toFormat(format).toBuffer();
      for (const share of [0.02, 0.5, 0.99]) {
        const message = await rejection(whole.subarray(0, Math.floor(whole.length * share)));
        assert.match(message, /truncated or damaged; send the whole file/, `${share} of the file`);
      }
      assert.match(await rejection(whole.subarray(0, 12)), /truncated or damaged/);
    });
  }

  it("damaged PNG is rejected", async () => {
    const damaged = Buffer.from(await gradient(512, 512).png().toBuffer());
    damaged.fill(0x55, Math.floor(damaged.length / 2), Math.floor(damaged.length / 2) + 64);
    assert.match(await rejection(damaged), /truncated or damaged/);
  });

  it("rejected image does not stop the next one, and an aborted one is not decoded", async () => {
    const decoder = createImageDecoder();
    const png = await gradient().png().toBuffer();
    const leaving = new AbortController();
    const size = { width: 96, height: 64 };
    const results = Promise.allSettled([
      decoder.decode(png.subarray(0, 200), size, signal),
      decoder.decode(png, size, leaving.signal),
      decoder.decode(png, size, signal),
    ]);
    leaving.abort(new Error("left"));
    const [broken, left, whole] = await results;
    assert.ok(broken.status === "rejected" && broken.reason instanceof InputImageError);
    assert.ok(left.status === "rejected" && left.reason instanceof Error && left.reason.message === "left");
    assert.ok(whole.status === "fulfilled");
    assert.deepEqual(whole.value.data, pixels);
  });
});
