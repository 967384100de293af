import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { vaeSchema } from "../../src/engine/model-config.js";
import type { ModelSession } from "../../src/engine/sessions.js";
import { createLatentPreview, decodeLatents } from "../../src/engine/vae-decoder.js";

/** A decoder of one pixel a latent that gives back the first three channels that it is fed. */
const echo: ModelSession = {
  inputs: new Map(),
  outputs: ["sample"],
  run: async ({ latent_sample: fed }) => {
    assert.ok(fed !== undefined);
    const [, , height = 0, width = 0] = fed.shape;
    return () => ({ data: Float32Array.from(fed.data).slice(0, 3 * height * width), shape: [1, 3, height, width] });
  },
  release: async () => {},
};

const config = { latent_channels: 4, block_out_channels: [8] };
const { signal } = new AbortController();

async function decode(keys: object, latents: readonly number[]): Promise<number[]> {
  const tensor = { data: Float32Array.from(latents), shape: [1, 4, 1, latents.length / 4] };
  return [...(await decodeLatents(echo, vaeSchema.parse({ ...config, ...keys }), tensor, signal)).data];
}

describe("VAE decoding", () => {
  it("decoder interleaves channels, clamps, and rounds half to even", async () => {
    const row = (value: number) => [value, -value];
    const bytes = await decode({ scaling_factor: 1 }, [...row(1), ...row(0), ...row(9), ...row(0)]);
    // 127.5 is a tie between 127 and 128.
    assert.deepEqual(bytes, [255, 128, 255, 0, 128, 0]);
  });

  it("decoder scales latents by the configuration", async () => {
    assert.deepEqual(await decode({ scaling_factor: 0.5 }, [0.5, 0.25, -0.25, 0]), [255, 191, 64]);
    assert.deepEqual(await decode({ scaling_factor: 0.5, shift_factor: -0.5 }, [0.5, 0.25, 0, 0]), [191, 128, 64]);
    const normalized = { scaling_factor: 0.5, latents_mean: [0, 0.5, -1, 0], latents_std: [1, 2, 1, 1] };
    assert.deepEqual(await decode(normalized, [0.25, 0.125, 0.5, 0]), [191, 255, 128]);
    assert.deepEqual(await decode({}, [0.13025, 0, 0, 0]), [255, 128, 128], "SDXL's own factor where there is none");
  });

  it("decoder rejects latents that are NaN", async () => {
    await assert.rejects(decode({}, [Number.NaN, 0, 0, 0]), {
      name: "GenerationError",
      kind: "failed",
      message: /UNet exported in float32/,
    });
  });
});

const sdxlVae = vaeSchema.parse({ latent_channels: 4, block_out_channels: [128, 256, 512, 512] });

/** The first pixel of latents [1, channels, 1, 2] whose second pixel is all zeros. */
function firstPixel(preview: ReturnType<typeof createLatentPreview>, latent: readonly number[]) {
  const data = Float32Array.from(latent.flatMap((value) => [value, 0]));
  return preview?.({ data, shape: [1, latent.length, 1, 2] }).data.subarray(0, 3);
}

describe("latent preview", () => {
  it("preview uses SDXL's linear factors when the folder has none", () => {
    const preview = createLatentPreview(sdxlVae, {});
    // ((bias + latent · factors) + 1) / 2, of 255.
    const red = (0.1084 + 0.3651 * 0.5 - 0.2533 * -0.25 + 0.1076 * 1 - 0.3165 * -0.125 + 1) * 127.5;
    const green = (-0.0175 + 0.4232 * 0.5 - 0.0042 * -0.25 + 0.1111 * 1 - 0.2492 * -0.125 + 1) * 127.5;
    const blue = (-0.0011 + 0.4341 * 0.5 + 0.1068 * -0.25 - 0.0362 * 1 - 0.2188 * -0.125 + 1) * 127.5;
    assert.deepEqual(firstPixel(preview, [0.5, -0.25, 1, -0.125]), Uint8Array.of(red + 0.5, green + 0.5, blue + 0.5));
  });

  it("preview does not use SDXL's factors for another VAE", () => {
    assert.equal(createLatentPreview({ ...sdxlVae, scaling_factor: 0.18215 }, {}), undefined);
    assert.equal(createLatentPreview({ ...sdxlVae, latent_channels: 8 }, {}), undefined);
  });

  it("preview prefers the folder's factors for any number of channels", () => {
    const previewFactors: [number, number, number][] = [
      [1, 0, 0],
      [0, -1, 0.5],
    ];
    const preview = createLatentPreview({ ...sdxlVae, latent_channels: 2 }, { previewFactors });
    assert.deepEqual(firstPixel(preview, [0.2, 0.6]), Uint8Array.of(153, 51, 166));
    assert.deepEqual(firstPixel(preview, [9, 9]), Uint8Array.of(255, 0, 255));
  });

  it("preview stores the pixels row by row", () => {
    const preview = createLatentPreview(sdxlVae, { previewFactors: [[1, 1, 1]] });
    const image = preview?.({ data: Float32Array.of(-1, 1, 0, 1, -1, 0), shape: [1, 1, 2, 3] });
    assert.deepEqual([image?.width, image?.height], [3, 2]);
    assert.deepEqual(
      [...(image?.data ?? [])].filter((_, i) => i % 3 === 0),
      [0, 255, 128, 255, 0, 128],
    );
  });
});
