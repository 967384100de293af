import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as z from "zod";
import { createEulerDiscrete, eulerDiscreteConfig, eulerSchedule } from "../../src/engine/euler.js";
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

describe("Euler discrete scheduler", async () => {
  const loopState = z.object({ modelInput: z.string(), clean: z.string(), latents: z.string() });
  const golden = await readGolden(
    "engine/euler-discrete.json",
    z.object({
      cases: z.array(
        z.object({
          name: z.string(),
          config: z.record(z.string(), z.unknown()),
          steps: z.number(),
          timesteps: z.string(),
          sigmas: z.string(),
          initNoiseSigma: z.string(),
          loop: z.object({ seed: z.number(), states: z.array(loopState) }).optional(),
        }),
      ),
    }),
  );

  /** Relative to the largest value: torch's square root is off by up to one last place, and so are its noise levels. */
  function assertClose(
    actual: Float32Array,
    expected: Float32Array,
    tolerance: number,
    what: string,
    scale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0),
  ): void {
    assert.equal(actual.length, expected.length, what);
    const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - (actual[i] ?? Number.NaN))), 0);
    assert.ok(worst <= tolerance * scale, `${what}: off by ${worst} of ${scale}`);
  }

  const noDraws = () => assert.fail("Euler's method draws no noise");

  for (const { name, config, steps, loop, ...expected } of golden.cases) {
    const parsed = eulerDiscreteConfig.parse(config);

    it(`timesteps and noise levels are those of diffusers: ${name}, ${steps} steps`, () => {
      const schedule = eulerSchedule(parsed, steps);
      assertClose(schedule.timesteps, floatsFromBase64(expected.timesteps), 1e-6, "timesteps");
      assertClose(schedule.sigmas, floatsFromBase64(expected.sigmas), 1e-6, "sigmas");
      assertClose(
        Float32Array.of(schedule.initialNoiseSigma),
        floatsFromBase64(expected.initNoiseSigma),
        1e-6,
        "start",
      );
    });

    if (loop !== undefined) {
      it(`denoising follows diffusers from noise to latents: ${name}`, () => {
        // Latents come down from the first noise level, and keep the error that they have there.
        const start = floatsFromBase64(expected.initNoiseSigma)[0];
        const noise = createTorchGenerator(loop.seed).randn(16);
        let state: SamplingState = createEulerDiscrete(parsed).begin({ steps, noise, drawNoise: noDraws });
        for (const [index, expectedState] of loop.states.entries()) {
          assert.ok(state.kind === "step");
          assertClose(
            state.modelInput,
            floatsFromBase64(expectedState.modelInput),
            3e-7,
            `input of step ${index}`,
            start,
          );
          const output = state.modelInput.map((value) => Math.fround(value * 0.5) + 0.25);
          const { next, predictedClean } = state.advance(output);
          assertClose(
            predictedClean,
            floatsFromBase64(expectedState.clean),
            3e-7,
            `clean latents of step ${index}`,
            start,
          );
          state = next;
        }
        assert.ok(state.kind === "finished");
        assertClose(state.latents, floatsFromBase64(loop.states.at(-1)?.latents ?? ""), 3e-7, "latents", start);
      });
    }
  }

  it("scheduler is stateless: samplings do not affect each other, and a step can be repeated", () => {
    const scheduler = createEulerDiscrete(eulerDiscreteConfig.parse({}));
    const noise = createTorchGenerator(0).randn(16);
    const before = Float32Array.from(noise);
    const one = scheduler.begin({ steps: 2, noise, drawNoise: noDraws });
    const other = scheduler.begin({ steps: 5, noise, drawNoise: noDraws });
    assert.ok(one.kind === "step" && other.kind === "step");
    const first = one.advance(one.modelInput);
    other.advance(other.modelInput);
    assert.deepEqual(one.advance(one.modelInput).predictedClean, first.predictedClean);
    assert.deepEqual(noise, before);
  });

  it("number of steps is the requested one where numpy's rounding makes one more", () => {
    const config = eulerDiscreteConfig.parse({ timestep_spacing: "trailing" });
    for (let steps = 1; steps <= 150; steps++) {
      const { timesteps, sigmas } = eulerSchedule(config, steps);
      assert.equal(timesteps.length, steps);
      assert.equal(sigmas.length, steps + 1);
      assert.ok(
        timesteps.every((timestep) => timestep >= 0),
        `${steps} steps`,
      );
    }
  });

  it("configuration that would generate wrong images is rejected", () => {
    for (const config of [
      { interpolation_type: "log_linear" },
      { use_beta_sigmas: true },
      { use_exponential_sigmas: true },
      { prediction_type: "flow_prediction" },
      { timestep_type: "continuous" },
    ]) {
      assert.equal(eulerDiscreteConfig.safeParse(config).success, false, JSON.stringify(config));
    }
  });
});
