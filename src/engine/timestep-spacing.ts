import { roundHalfToEven } from "./round-half-to-even.js";

/** How the steps asked for are spread over the training steps: table 2 of https://arxiv.org/abs/2305.08891. */
export interface TimestepSpacingOptions {
  readonly spacing: "linspace" | "leading" | "trailing";
  /** Added to each timestep of `leading`. */
  readonly stepsOffset: number;
  readonly trainSteps: number;
  readonly steps: number;
}

/** Timesteps from the noisiest to the cleanest, in float32, computed as numpy does for diffusers' Euler schedulers. */
export function spaceTimesteps({ spacing, stepsOffset, trainSteps, steps }: TimestepSpacingOptions): Float32Array {
  switch (spacing) {
    case "linspace": {
      const last = trainSteps - 1;
      const distance = last / Math.max(steps - 1, 1);
      return Float32Array.from({ length: steps }, (_, i) => {
        const index = steps - 1 - i;
        return index > 0 && index === steps - 1 ? last : index * distance;
      });
    }
    case "leading": {
      const distance = Math.floor(trainSteps / steps);
      return Float32Array.from({ length: steps }, (_, i) => (steps - 1 - i) * distance + stepsOffset);
    }
    case "trailing": {
      // As numpy.arange: its distance is that between its first two values. For some numbers of steps (61 of 1000) its
      // rounding yields one value more, at timestep -1; that one is left out here.
      const distance = trainSteps - trainSteps / steps - trainSteps;
      return Float32Array.from({ length: steps }, (_, i) => roundHalfToEven(trainSteps + i * distance) - 1);
    }
  }
}
