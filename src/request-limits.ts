/** A range of the contract, both ends included. */
export interface NumberRange {
  readonly min: number;
  readonly max: number;
  /** The value is a multiple of it. Absent: any number. */
  readonly step?: number;
}

/**
 * Limits of the contract's rules, for checks and messages outside the contract. `test/request-limits.test.ts` compares them with the rules
 * of the `.proto` files, which are what servers enforce.
 */
export const requestLimits = {
  /** Unicode code points of a prompt, and of a negative prompt. */
  maxPromptLength: 2000,
  /** Pixels of the width, and of the height. */
  side: { min: 64, max: 2048, step: 8 },
  steps: { min: 1, max: 150, step: 1 },
  guidance: { min: 0, max: 30 },
  seed: { min: 0, max: 4_294_967_295, step: 1 },
  /** Of JPEG and WebP. */
  quality: { min: 1, max: 100, step: 1 },
  /** Bytes of the encoded image to start from. */
  maxInitImageBytes: 8_388_608,
  strength: { min: 0, max: 1 },
  maxLoras: 8,
  /** Characters of a LoRA's name. */
  maxLoraNameLength: 128,
  loraScale: { min: -10, max: 10 },
  clipSkip: { min: 0, max: 11, step: 1 },
  guidanceRescale: { min: 0, max: 1 },
  /** Entries of a carrier in `trace_context`. */
  maxTraceContextEntries: 16,
} as const;

/**
 * Bytes of a request message of the methods that take an image: `maxInitImageBytes` in base64, which is a third longer, and 1.3 MiB for the
 * rest. Messages of all other methods, and what is sent without an image, are far smaller.
 */
export const maxImageRequestBytes = 12_582_912;

/** Pixels of the longest side of an image to start from. No rule of the contract: the worker reads the size from the image. */
export const maxInitImageSide = 2048;

/** Strength of a request with an image and without a strength. */
export const defaultStrength = 0.3;
