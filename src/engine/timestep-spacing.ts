import { roundHalfToEven } from "./round-half-to-even.js";

/** How the steps asked for are spread over the training steps: table 2 of https://arxiv.org/abs/2305.08891. */
export interface TimestepSpacingOptions {
  readonly spacing: "linspace" | "leading" | "trailing";
  /** Added to each timestep of `leading`. */
  readonly stepsOffset: number;
  readonly trainSteps: number;
  /** How many of the training steps are used, from the cleanest. @default all */
  readonly usedSteps?: number;
  readonly steps: number;
}

/** Timesteps from the noisiest to the cleanest, in double precision, computed as numpy does for diffusers' schedulers. */
export function spaceTimesteps(options: TimestepSpacingOptions): readonly number[] {
  const { spacing, stepsOffset, trainSteps, usedSteps = trainSteps, steps } = options;
  switch (spacing) {
    case "linspace": {
      const last = usedSteps - 1;
      const distance = last / Math.max(steps - 1, 1);
      return Array.from({ length: steps }, (_, i) => {
        const index = steps - 1 - i;
        return index > 0 && index === steps - 1 ? last : index * distance;
      });
    }
    case "leading": {
      const distance = Math.floor(usedSteps / steps);
      return Array.from({ length: steps }, (_, i) => (steps - 1 - i) * distance + stepsOffset);
    }
    case "trailing": {
      // As numpy.arange: its distance is that between its first two values. For some numbers of steps (61 of 1000) its
      // rounding yields one value more, at timestep -1; that one is left out here. Of fewer used steps come fewer values.
      const distance = usedSteps - trainSteps / steps - usedSteps;
      const spaced = Array.from({ length: steps }, (_, i) => roundHalfToEven(usedSteps + i * distance) - 1);
      return spaced.filter((timestep) => timestep >= 0);
    }
  }
}
