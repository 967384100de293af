import { z } from "zod";
import { spaceEulerSchedule } from "./euler-schedule.js";
import { trainingSigmas } from "./noise-schedule.js";
import { noiseScheduleConfig, noiseScheduleOf, timestepSpacing } from "./noise-schedule-config.js";
import { predictCleanExploding } from "./predict-clean.js";
import type { SamplingState, Scheduler } from "./scheduler.js";

/**
 * What diffusers' `EulerAncestralDiscreteScheduler` reads from scheduler_config.json, with its defaults; other keys, such as
 * `use_karras_sigmas` and `final_sigmas_type`, are ignored.
 */
export const eulerAncestralConfig = noiseScheduleConfig.extend({
  prediction_type: z.enum(["epsilon", "v_prediction"]).default("epsilon"),
  timestep_spacing: timestepSpacing.default("linspace"),
  steps_offset: z.int().default(0),
});

const round = Math.fround;
const square = (value: number): number => round(value * value);

/**
 * Euler's method in steps that go below the next noise level, to σ_down, and come up to it again with fresh noise of
 * deviation σ_up, where σ_down² + σ_up² is the next level's variance: the ancestral sampling of DDPM
 * (https://arxiv.org/abs/2006.11239) in the form of k-diffusion's `sample_euler_ancestral` with η = 1
 * (https://github.com/crowsonkb/k-diffusion). Each operation is rounded to float32 in the order of diffusers'
 * `EulerAncestralDiscreteScheduler`, which it equals.
 */
export function createEulerAncestral(config: z.output<typeof eulerAncestralConfig>): Scheduler {
  const levels = trainingSigmas(noiseScheduleOf(config));
  const options = { levels, spacing: config.timestep_spacing, stepsOffset: config.steps_offset, finalSigma: 0 };
  return {
    maximumSteps: levels.length,
    begin({ steps, noise, drawNoise }) {
      const { timesteps, sigmas, initialNoiseSigma } = spaceEulerSchedule(options, steps);
      const stepAt = (index: number, latents: Float32Array): SamplingState => {
        const [sigma, nextSigma, timestep] = [sigmas[index], sigmas[index + 1], timesteps[index]];
        if (sigma === undefined || nextSigma === undefined || timestep === undefined) {
          return { kind: "finished", latents };
        }
        const inputScale = round(Math.sqrt(round(square(sigma) + 1)));
        return {
          kind: "step",
          timestep,
          modelInput: latents.map((value) => value / inputScale),
          advance(modelOutput) {
            const predictedClean = predictCleanExploding(config.prediction_type, sigma, latents, modelOutput);
            const { up, down } = splitLevel(sigma, nextSigma);
            const distance = round(down - sigma);
            // diffusers draws after the last step too, where nothing is added; so the generator is left in the same state.
            const fresh = drawNoise();
            const moved = latents.map((value, i) => {
              const derivative = round(round(value - (predictedClean[i] ?? 0)) / sigma);
              return round(value + round(derivative * distance)) + round((fresh[i] ?? 0) * up);
            });
            return { next: stepAt(index + 1, moved), predictedClean };
          },
        };
      };
      return stepAt(
        0,
        noise.map((value) => value * initialNoiseSigma),
      );
    },
  };
}

/** σ_up² = σ_n² (σ² − σ_n²) / σ², σ_down² = σ_n² − σ_up². */
function splitLevel(sigma: number, nextSigma: number): { readonly up: number; readonly down: number } {
  const next = square(nextSigma);
  const now = square(sigma);
  const up = round(Math.sqrt(round(round(next * round(now - next)) / now)));
  return { up, down: round(Math.sqrt(round(next - square(up)))) };
}
