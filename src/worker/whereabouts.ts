import { type Progress, type Queued, Stage } from "../gen/throughline/v1/image_pb.js";

/** How far a request is, in words for an error: `queued at position 2`, `denoising, step 11 of 30`. */
export interface Whereabouts {
  queued(event: Pick<Queued, "position">): void;
  /** Its turn has come, and the engine has not answered yet. */
  turn(): void;
  progress(event: Pick<Progress, "stage" | "step" | "totalSteps">): void;
  toString(): string;
}

export function createWhereabouts(): Whereabouts {
  let words = "before it was queued";
  return {
    queued({ position }) {
      words = `queued at position ${position}`;
    },
    turn() {
      words = "waiting for the engine";
    },
    progress({ stage, step, totalSteps }) {
      words = describe(stage, step, totalSteps);
    },
    toString: () => words,
  };
}

function describe(stage: Stage, step: number, totalSteps: number): string {
  switch (stage) {
    case Stage.TEXT_ENCODING:
      return "encoding the prompt";
    case Stage.DENOISING:
      return `denoising, step ${step} of ${totalSteps}`;
    case Stage.VAE_DECODE:
      return "decoding the picture";
    case Stage.UPLOAD:
      return "storing the picture";
    case Stage.UNSPECIFIED:
      return "before it was painted";
  }
}
