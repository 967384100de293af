/**
 * A sampling algorithm with its configuration. It holds no state of a picture: that is in the steps it hands out, and each
 * step leads to the next one only through the model's output, so that no call can come in a wrong order.
 */
export interface Scheduler {
  /** Steps that the model was trained on, and so the most that it can be asked for. */
  readonly maximumSteps: number;
  begin(start: SamplingStart): SamplingState;
}

/** What sampling begins from. */
export interface SamplingStart {
  /** Number of model evaluations. */
  readonly steps: number;
  /** Standard normal noise of the latents' size; it is not changed. */
  readonly noise: Float32Array;
  /**
   * More standard normal noise of the same size, for algorithms that add some on the way: one draw when a step advances, or
   * none, at the same places as diffusers.
   */
  readonly drawNoise: () => Float32Array;
}

/** Where sampling stands: the model is wanted once more, or the latents are done. */
export type SamplingState = SamplingStep | { readonly kind: "finished"; readonly latents: Float32Array };

/** One step: run the model on `modelInput` at `timestep`, and go on with what it puts out. */
export interface SamplingStep {
  readonly kind: "step";
  /** Timestep as the model wants it; not always an integer. */
  readonly timestep: number;
  /** Latents, scaled as the model wants them. */
  readonly modelInput: Float32Array;
  advance(modelOutput: Float32Array): SamplingAdvance;
}

export interface SamplingAdvance {
  readonly next: SamplingState;
  /** The latents without any noise, as the model predicts them at this step: what a preview shows. */
  readonly predictedClean: Float32Array;
}
