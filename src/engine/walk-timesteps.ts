import type { SamplingAdvance, SamplingState } from "./scheduler.js";

/** A way along timesteps on which the model sees the latents as they are, because their variance stays 1. */
export interface TimestepWalk {
  readonly timesteps: readonly number[];
  /** The latents at the first timestep. */
  readonly start: Float32Array;
  /** What step `index`, at `timestep`, makes of the latents and of the model's output for them. */
  advance(index: number, timestep: number, latents: Float32Array, modelOutput: Float32Array): WalkStep;
}

export interface WalkStep extends Pick<SamplingAdvance, "predictedClean"> {
  /** The latents at the next timestep. */
  readonly latents: Float32Array;
}

/** The sampling that goes one timestep after the other to their end. */
export function walkTimesteps({ timesteps, start, advance }: TimestepWalk): SamplingState {
  const stepAt = (index: number, latents: Float32Array): SamplingState => {
    const timestep = timesteps[index];
    if (timestep === undefined) {
      return { kind: "finished", latents };
    }
    return {
      kind: "step",
      timestep,
      modelInput: latents,
      advance(modelOutput) {
        const step = advance(index, timestep, latents, modelOutput);
        return { next: stepAt(index + 1, step.latents), predictedClean: step.predictedClean };
      },
    };
  };
  return stepAt(0, start);
}
