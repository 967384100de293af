import type { GenerationLimits, GenerationSettings, GenerationTimings } from "../engine/engine.js";
import { needsSecondRun } from "../engine/generation-limits.js";

/** How much there is to do for an image, whatever the machine. */
export interface GenerationWork {
  /** Evaluations of the UNet. */
  readonly unetRuns: number;
  /** Latents of one channel. */
  readonly latentPixels: number;
}

/** What a generation took. */
export interface MeasuredGeneration extends Pick<GenerationTimings, "denoisingMs" | "vaeDecodeMs"> {
  /** From its turn to its end. */
  readonly totalMs: number;
}

/**
 * Estimates how long images take, from those that were generated. For each size it keeps what a UNet run takes and what the VAE takes; the
 * rest (text encoding, hand-over) is the same for all. Each is an exponentially weighted average, and a size that has not been
 * generated for five minutes is forgotten.
 *
 * A size that has not been generated is estimated by the lowest cost of a latent pixel among those that were: small images pay a fixed cost
 * for each run, which says nothing about large ones. That is too little for much larger ones, where attention grows faster than the area.
 */
export interface GenerationEstimate {
  /** Images of any size that it is made from now. 0: everything is unknown; the warm-up does not count, it is small and cold. */
  readonly generations: number;
  /** Images of this very size that it is made from now. */
  generationsLike(work: GenerationWork): number;
  /** Expected milliseconds; 0 while nothing has been generated. */
  of(work: GenerationWork): number;
  learn(work: GenerationWork, measured: MeasuredGeneration): void;
}

/** Weight of the newest generation; the last handful count. */
const smoothing = 0.3;
/** What was measured longer ago says nothing: the machine may have been busy, or on another device. */
const staleMs = 300_000;
/** Sizes that are remembered at once; the one that was generated least recently goes first. */
const maxSizes = 32;

/** The work of an image, once its settings are known. */
export function generationWork(settings: GenerationSettings, limits: GenerationLimits): GenerationWork {
  const { width, height, steps } = settings;
  return {
    unetRuns: steps * (needsSecondRun(settings, limits) ? 2 : 1),
    latentPixels: (width / limits.sizes.vaeFactor) * (height / limits.sizes.vaeFactor),
  };
}

/** What images of one size take, in milliseconds. */
interface Measured {
  readonly latentPixels: number;
  readonly generations: number;
  readonly runMs: number;
  readonly decodeMs: number;
  readonly at: number;
}

/** @param now milliseconds from any fixed point. */
export function createGenerationEstimate(now: () => number = () => performance.now()): GenerationEstimate {
  /** By latent pixels, the one that was generated last at the end. */
  const sizes = new Map<number, Measured>();
  let restMs: number | undefined;
  const follow = (average: number | undefined, value: number) =>
    average === undefined ? value : average + smoothing * (value - average);

  const fresh = (): readonly Measured[] => {
    const oldest = now() - staleMs;
    for (const [key, { at }] of sizes) {
      if (at < oldest) {
        sizes.delete(key);
      }
    }
    return [...sizes.values()];
  };

  /** What a run or a decoding takes at a size. */
  const costAt = (latentPixels: number, known: readonly Measured[], msOf: (size: Measured) => number): number => {
    const same = known.find((size) => size.latentPixels === latentPixels);
    if (same !== undefined) {
      return msOf(same);
    }
    return latentPixels * Math.min(...known.map((size) => msOf(size) / size.latentPixels));
  };

  return {
    get generations() {
      return fresh().reduce((sum, { generations }) => sum + generations, 0);
    },
    generationsLike: ({ latentPixels }) => fresh().find((size) => size.latentPixels === latentPixels)?.generations ?? 0,
    of({ unetRuns, latentPixels }) {
      const known = fresh();
      if (known.length === 0) {
        return 0;
      }
      const runMs = costAt(latentPixels, known, (size) => size.runMs);
      return (restMs ?? 0) + unetRuns * runMs + costAt(latentPixels, known, (size) => size.decodeMs);
    },
    learn({ unetRuns, latentPixels }, { totalMs, denoisingMs, vaeDecodeMs }) {
      const known = fresh();
      const before = known.find((size) => size.latentPixels === latentPixels);
      restMs = follow(known.length === 0 ? undefined : restMs, Math.max(0, totalMs - denoisingMs - vaeDecodeMs));
      sizes.delete(latentPixels);
      sizes.set(latentPixels, {
        latentPixels,
        generations: (before?.generations ?? 0) + 1,
        runMs: follow(before?.runMs, denoisingMs / unetRuns),
        decodeMs: follow(before?.decodeMs, vaeDecodeMs),
        at: now(),
      });
      const [oldest] = sizes.keys();
      if (sizes.size > maxSizes && oldest !== undefined) {
        sizes.delete(oldest);
      }
    },
  };
}
