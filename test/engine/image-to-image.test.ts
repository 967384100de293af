import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import * as z from "zod";
import type { Pixels } from "../../src/engine/engine.js";
import { readModel } from "../../src/engine/model-folder.js";
import type { SamplingState } from "../../src/engine/scheduler.js";
import { schedulers } from "../../src/engine/schedulers.js";
import { loadSdxlEngine } from "../../src/engine/sdxl-engine.js";
import type { OpenSession } from "../../src/engine/sessions.js";
import { createSessionOpener } from "../../src/engine/sessions-onnx.js";
import { stepsToRun } from "../../src/engine/strength.js";
import { createTorchGenerator } from "../../src/engine/torch-generator.js";
import { floatsFromBase64, readGolden } from "../fixtures/golden-file.js";
import { generateOnce, psnr } from "./generate-once.js";

/*
 * Image to image against diffusers: training/image_to_image_goldens.py made the values.
 */

const schedulerName = z.enum(schedulers.map(({ name }) => name));
const golden = await readGolden(
  "diffusers/image-to-image.json",
  z.object({
    seed: z.number(),
    input: z.string(),
    schedulers: z.array(
      z.object({
        scheduler: schedulerName,
        config: z.record(z.string(), z.unknown()),
        steps: z.number(),
        strength: z.number(),
        timesteps: z.array(z.number()),
        latents: z.string(),
        largest: z.number(),
        next_draw: z.string(),
      }),
    ),
    images: z.array(
      z.object({
        scheduler: schedulerName,
        prompt: z.string(),
        negative_prompt: z.string().exactOptional(),
        strength: z.number(),
        num_inference_steps: z.number(),
        guidance_scale: z.number(),
        seed: z.number(),
        /** Part of the input. */
        left: z.number(),
        top: z.number(),
        width: z.number(),
        height: z.number(),
        sheet_left: z.number(),
        sheet_top: z.number(),
        offset: z.number(),
        length: z.number(),
      }),
    ),
  }),
);

const latentCount = 16;
/** Of the largest latent. */
const samplingTolerance = 3e-6;

function distance(values: Float32Array, expected: Float32Array): number {
  assert.equal(values.length, expected.length);
  return expected.reduce((most, value, i) => Math.max(most, Math.abs(value - (values[i] ?? Number.NaN))), 0);
}

describe("schedulers that begin in mid-way, over random configurations, compared with diffusers", () => {
  for (const name of schedulerName.options) {
    it(`${name} has 10 configurations`, () => {
      assert.equal(golden.schedulers.filter(({ scheduler }) => scheduler === name).length, 10);
    });
  }

  for (const { scheduler, config, steps, strength, ...expected } of golden.schedulers) {
    it(`${scheduler}, ${steps} steps, strength ${strength}: ${JSON.stringify(config)}`, (test) => {
      const entry = schedulers.find(({ name }) => name === scheduler);
      assert.ok(entry !== undefined);
      const sampler = entry.create((schema) => schema.parse({ ...config, ...entry.fixed }));
      const generator = createTorchGenerator(golden.seed);
      const drawNoise = () => generator.randn(latentCount);
      const image = { latents: drawNoise(), skippedSteps: steps - stepsToRun({ steps, strength }) };
      let state: SamplingState = sampler.begin({ steps, noise: drawNoise(), drawNoise, image });
      const timesteps: number[] = [];
      while (state.kind === "step") {
        const shift = Math.fround(state.timestep / 1024 - 0.5);
        timesteps.push(state.timestep);
        state = state.advance(state.modelInput.map((value) => value * 0.125 + shift)).next;
      }
      assert.ok(distance(Float32Array.from(timesteps), Float32Array.from(expected.timesteps)) <= 1e-4);
      const off = distance(state.latents, floatsFromBase64(expected.latents)) / expected.largest;
      test.diagnostic(`latents within ${off.toExponential(1)} of the largest`);
      assert.ok(off <= samplingTolerance, `latents are off by ${off} of the largest`);
      assert.ok(distance(drawNoise().subarray(0, 1), floatsFromBase64(expected.next_draw)) <= 1e-6, "next draw");
    });
  }
});

const goldenFile = (name: string) => fileURLToPath(new URL(`../golden/diffusers/${name}`, import.meta.url));
const modelFolder = fileURLToPath(new URL("../../models/emoji-xl", import.meta.url));

async function readPart(file: string, part: { left: number; top: number; width: number; height: number }) {
  const pixels = await sharp(goldenFile(file)).extract(part).removeAlpha().raw().toBuffer();
  return { data: new Uint8Array(pixels), width: part.width, height: part.height } satisfies Pixels;
}

/** Latents are about ±3. */
const latentsTolerance = 1e-3;
const leastPsnr = 60;

describe("images from images of the embedded model, compared with diffusers' StableDiffusionXLImg2ImgPipeline", async () => {
  let decoded: Float32Array = new Float32Array(0);
  const open = createSessionOpener({ threads: 1 });
  const openSession: OpenSession = async (graph) => {
    const session = await open(graph);
    return {
      ...session,
      run(feeds, wanted) {
        if (graph.subModel === "vae_decoder") {
          decoded = Float32Array.from(feeds["latent_sample"]?.data ?? []);
        }
        return session.run(feeds, wanted);
      },
    };
  };
  const { vae } = await readModel(modelFolder);
  const engine = await loadSdxlEngine({ modelFolder, openSession });
  after(() => engine.release());

  for (const { scheduler, prompt, negative_prompt: negativePrompt, strength, seed, ...request } of golden.images) {
    const { width, height, num_inference_steps: steps, guidance_scale: guidanceScale } = request;
    it(`${scheduler}, ${steps} steps, strength ${strength}, guidance ${guidanceScale}, ${width}×${height}`, async (test) => {
      const initImage = await readPart(golden.input, request);
      const settings = { scheduler, steps, strength, guidanceScale, seed, width, height };
      const { pixels } = await generateOnce(engine, { prompt, negativePrompt, initImage, ...settings });
      const latents = (await readFile(goldenFile("image-to-image-latents.f32"))).subarray(request.offset);
      const expected = Float32Array.from({ length: request.length }, (_, i) => latents.readFloatLE(4 * i));
      const off = distance(
        decoded.map((value) => value * vae.scaling_factor),
        expected,
      );
      const likeness = psnr(
        pixels.data,
        (await readPart("image-to-image.png", { left: request.sheet_left, top: request.sheet_top, width, height }))
          .data,
      );
      test.diagnostic(`latents within ${off.toExponential(1)}, ${likeness.toFixed(1)} dB`);
      assert.ok(off <= latentsTolerance, `latents differ by up to ${off}`);
      assert.ok(likeness >= leastPsnr, `${likeness} dB`);
    });
  }
});
