import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { vaeSchema } from "../../src/engine/model-config.js";
import type { ModelSession } from "../../src/engine/sessions.js";
import { decodeLatents } from "../../src/engine/vae-decoder.js";

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
