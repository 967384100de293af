import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as z from "zod";
import { createDenoiser, type DenoiserOptions, guidanceEmbedding, timeIds } from "../../src/engine/denoiser.js";
import type { InputSpec, InputTensor, ModelSession } from "../../src/engine/sessions.js";
import { floatsFromBase64, readGolden } from "../fixtures/golden-file.js";

const embedding = (value: number) => ({
  context: { data: new Float32Array(6).fill(value), shape: [1, 2, 3] },
  pooled: { data: new Float32Array(4).fill(value), shape: [1, 4] },
});

interface UnetOptions {
  readonly batch?: number | string;
  readonly timestep?: readonly string[];
}

/** A UNet that puts out, for each image, its latents times the sum of its prompt, plus its timestep; and what it was fed. */
function fakeUnet({ batch = "batch_size", timestep = ["steps"] }: UnetOptions = {}) {
  const runs: Readonly<Record<string, InputTensor>>[] = [];
  const inputs = new Map<string, InputSpec>([
    ["sample", { type: "float32", shape: [batch, 1, "height", "width"] }],
    ["timestep", { type: "float32", shape: timestep }],
  ]);
  const unet: ModelSession = {
    inputs,
    outputs: ["out_sample"],
    async run(feeds) {
      runs.push(feeds);
      const { sample, encoder_hidden_states: context, timestep: times } = feeds;
      const [images = 0] = sample?.shape ?? [];
      const size = (sample?.data.length ?? 0) / images;
      const rowLength = (context?.data.length ?? 0) / images;
      const rowSum = (row: number) =>
        Array.from(context?.data ?? [])
          .slice(row * rowLength, (row + 1) * rowLength)
          .reduce((sum, value) => sum + value, 0);
      const data = Float32Array.from(sample?.data ?? [], (value, i) => {
        const image = Math.floor(i / size);
        return value * rowSum(image) + (times?.data[image] ?? times?.data[0] ?? Number.NaN);
      });
      return () => ({ data, shape: sample?.shape ?? [] });
    },
    release: async () => {},
  };
  return { unet, runs };
}

const latents = Float32Array.of(1, -2, 0.5, 3);
const { signal } = new AbortController();
const options: DenoiserOptions = {
  latentShape: [1, 1, 2, 2],
  positive: embedding(0.5),
  negative: embedding(0.25),
  guidanceScale: 5,
  timeIds: timeIds(16, 32),
  batchGuidance: false,
};
/** u + 5 · (c − u), with u = 1.5 x + 7 and c = 3 x + 7. */
const guided = Float32Array.from(latents, (x) => 1.5 * x + 7 + 5 * 1.5 * x);

const golden = await readGolden(
  "engine/guidance-embedding.json",
  z.object({ cases: z.array(z.object({ scale: z.number(), width: z.number(), values: z.string() })) }),
);

describe("denoiser", () => {
  it("denoiser without guidance runs the UNet once a step on unchanged latents", async () => {
    const { unet, runs } = fakeUnet();
    const denoise = createDenoiser(unet, { ...options, negative: undefined, batchGuidance: true });
    assert.deepEqual(
      await denoise(latents, 7, signal),
      latents.map((x) => 3 * x + 7),
    );
    assert.equal(runs.length, 1);
    assert.equal(runs[0]?.["sample"]?.data, latents);
    assert.deepEqual(runs[0]?.["time_ids"], { data: Float32Array.of(32, 16, 0, 0, 32, 16), shape: [1, 6] });
  });

  it("denoiser guides with two runs, first without the prompt", async () => {
    const { unet, runs } = fakeUnet();
    assert.deepEqual(await createDenoiser(unet, options)(latents, 7, signal), guided);
    assert.deepEqual(
      runs.map((feeds) => [feeds["sample"]?.shape[0], feeds["text_embeds"]?.data[0]]),
      [
        [1, 0.25],
        [1, 0.5],
      ],
    );
  });

  it("denoiser guides with one batch of two when enabled, with the same result", async () => {
    const { unet, runs } = fakeUnet();
    const denoise = createDenoiser(unet, { ...options, batchGuidance: true });
    assert.deepEqual(await denoise(latents, 7, signal), guided);
    assert.deepEqual(await denoise(latents, 7, signal), guided);
    assert.equal(runs.length, 2);
    const shapes = Object.entries(runs[0] ?? {}).map(([name, { shape }]) => [name, shape]);
    assert.deepEqual(Object.fromEntries(shapes), {
      sample: [2, 1, 2, 2],
      timestep: [1],
      encoder_hidden_states: [2, 2, 3],
      text_embeds: [2, 4],
      time_ids: [2, 6],
    });
    assert.equal(runs[0]?.["encoder_hidden_states"], runs[1]?.["encoder_hidden_states"], "put together once");
  });

  it("denoiser rescales the guided output to the standard deviation of the one with the prompt, by its share", async () => {
    // Both are 7 plus a multiple of the latents: deviations are in the ratio of 3 to 9.
    for (const [guidanceRescale, factor] of [
      [0, 1],
      [1, 3 / 9],
      [0.75, 0.75 * (3 / 9) + 0.25],
    ] as const) {
      for (const batchGuidance of [false, true]) {
        const denoise = createDenoiser(fakeUnet().unet, { ...options, guidanceRescale, batchGuidance });
        const output = await denoise(latents, 7, signal);
        for (const [i, value] of output.entries()) {
          assert.ok(
            Math.abs(value - factor * (guided[i] ?? Number.NaN)) < 1e-5,
            `${value} at share ${guidanceRescale}`,
          );
        }
      }
    }
  });

  it("denoiser without guidance, or with the same value everywhere, has nothing to rescale", async () => {
    const plain = createDenoiser(fakeUnet().unet, { ...options, negative: undefined, guidanceRescale: 1 });
    assert.deepEqual(
      await plain(latents, 7, signal),
      latents.map((x) => 3 * x + 7),
    );
    const even = createDenoiser(fakeUnet().unet, { ...options, guidanceRescale: 1 });
    assert.deepEqual(await even(new Float32Array(4), 7, signal), new Float32Array(4).fill(7));
  });

  it("denoiser passes one timestep per image when the graph requires it", async () => {
    const { unet, runs } = fakeUnet({ timestep: ["batch_size"] });
    assert.deepEqual(await createDenoiser(unet, { ...options, batchGuidance: true })(latents, 7, signal), guided);
    assert.deepEqual(runs[0]?.["timestep"], { data: [7, 7], shape: [2] });
  });

  it("denoiser makes two runs of a graph for one image at a time", async () => {
    const { unet, runs } = fakeUnet({ batch: 1 });
    assert.deepEqual(await createDenoiser(unet, { ...options, batchGuidance: true })(latents, 7, signal), guided);
    assert.equal(runs.length, 2);
  });
});

describe("guidance embedding compared with diffusers", () => {
  for (const { scale, width, values } of golden.cases) {
    it(`guidance embedding of scale ${scale} and width ${width} is the same`, () => {
      const expected = floatsFromBase64(values);
      const actual = guidanceEmbedding(scale, width);
      assert.equal(actual.length, expected.length);
      // Angles go up to 1000 · (scale − 1), and the last place of torch's exponential is worth 2^-23 of them.
      const tolerance = 1e-6 + 1000 * (scale - 1) * 2 ** -23;
      const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - (actual[i] ?? Number.NaN))), 0);
      assert.ok(worst <= tolerance, `off by ${worst}, more than ${tolerance}`);
    });
  }
});
