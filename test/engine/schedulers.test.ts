import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { z } from "zod";
import type { SamplingState } from "../../src/engine/scheduler.js";
import { schedulers } from "../../src/engine/schedulers.js";
import { createTorchGenerator } from "../../src/engine/torch-generator.js";
import { floatsFromBase64, readGolden } from "../fixtures/golden-file.js";

const config = z.record(z.string(), z.unknown());
const golden = await readGolden(
  "engine/schedulers.json",
  z.object({
    folder: config,
    seed: z.number(),
    cases: z.array(
      z.object({
        scheduler: z.string(),
        config: config.nullable(),
        steps: z.number(),
        timesteps: z.string(),
        initNoiseSigma: z.number(),
        latents: z.string(),
        firstClean: z.string().optional(),
        nextDraw: z.string(),
      }),
    ),
  }),
);

const latentCount = 16;

/** Stands in for the model. */
const predict = (modelInput: Float32Array, timestep: number): Float32Array => {
  const shift = Math.fround(timestep / 1024 - 0.5);
  return modelInput.map((value) => value * 0.125 + shift);
};

function assertClose(actual: Iterable<number>, expected: Float32Array, tolerance: number, what: string): void {
  const values = [...actual];
  assert.equal(values.length, expected.length, what);
  const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - (values[i] ?? Number.NaN))), 0);
  assert.ok(worst <= tolerance, `${what}: off by ${worst}, more than ${tolerance}`);
}

const largest = (values: Float32Array): number => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** Of the largest value, or of the noise at the start: latents come down from there, and keep the error they have there. */
const tolerance = 1e-6;

describe("schedulers over a folder's configuration, compared with diffusers' from_config", () => {
  for (const { scheduler, config, steps, initNoiseSigma, ...expected } of golden.cases) {
    it(`${scheduler}, ${steps} steps, ${config === null ? "class defaults" : JSON.stringify(config)}`, () => {
      const entry = schedulers.find(({ name }) => name === scheduler);
      assert.ok(entry !== undefined);
      const raw = { ...(config === null ? {} : { ...golden.folder, ...config }), ...entry.fixed };
      const generator = createTorchGenerator(golden.seed);
      const drawNoise = () => generator.randn(latentCount);
      const sampler = entry.create((schema) => schema.parse(raw));
      assert.ok(steps <= sampler.maximumSteps);
      let state: SamplingState = sampler.begin({ steps, noise: drawNoise(), drawNoise });
      const timesteps: number[] = [];
      const clean: Float32Array[] = [];
      while (state.kind === "step") {
        timesteps.push(state.timestep);
        const { next, predictedClean } = state.advance(predict(state.modelInput, state.timestep));
        clean.push(predictedClean);
        state = next;
      }
      assertClose(timesteps, floatsFromBase64(expected.timesteps), 1e-4, "timesteps");
      const latents = floatsFromBase64(expected.latents);
      assertClose(state.latents, latents, tolerance * Math.max(initNoiseSigma, largest(latents)), "latents");
      if (expected.firstClean !== undefined) {
        const first = floatsFromBase64(expected.firstClean);
        assertClose(clean[0] ?? [], first, tolerance * Math.max(initNoiseSigma, largest(first)), "clean latents");
      }
      assertClose(generator.randn(latentCount).subarray(0, 1), floatsFromBase64(expected.nextDraw), 1e-6, "next draw");
    });
  }
});

describe("scheduler algorithms", () => {
  for (const entry of schedulers) {
    for (const timestep_spacing of ["leading", "trailing", "linspace"]) {
      it(`scheduler accepts every number of steps up to its maximum: ${entry.name}, ${timestep_spacing}`, () => {
        const raw = { ...golden.folder, num_train_timesteps: 100, timestep_spacing, ...entry.fixed };
        const sampler = entry.create((schema) => schema.parse(raw));
        const noise = createTorchGenerator(golden.seed).randn(latentCount);
        const before = Float32Array.from(noise);
        for (let steps = 1; steps <= sampler.maximumSteps; steps++) {
          let state: SamplingState = sampler.begin({ steps, noise, drawNoise: () => Float32Array.from(noise) });
          let taken = 0;
          for (; state.kind === "step"; taken++) {
            assert.ok(state.timestep >= 0 && state.timestep <= 100, `timestep ${state.timestep} of ${steps} steps`);
            state = state.advance(predict(state.modelInput, state.timestep)).next;
          }
          assert.equal(taken, steps);
          assert.ok(state.latents.every(Number.isFinite), `${steps} steps`);
        }
        assert.deepEqual(noise, before);
      });
    }
  }
});
