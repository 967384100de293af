import type { GenerationLimits, GenerationSettings, GenerationTimings } from "../engine/engine.js";
import { needsSecondRun } from "../engine/generation-limits.js";
import { stepsToRun } from "../engine/strength.js";

/** Amount of work for an image, independent of the machine. */
export interface GenerationWork {
  /** Evaluations of the UNet. */
  readonly unetRuns: number;
  /** Latent pixels of one channel. */
  readonly latentPixels: number;
  /** Whether an image to start from is encoded. @default false */
  readonly encodes?: boolean | undefined;
}

/** Measured times of a generation. */
export interface MeasuredGeneration extends Pick<GenerationTimings, "vaeEncodeMs" | "denoisingMs" | "vaeDecodeMs"> {
  /** Time from the start to the end, in milliseconds. */
  readonly totalMs: number;
}

/**
 * Estimator of generation times from measured ones. By image size: UNet run, VAE decoding and VAE encoding; for all sizes: the rest, such as
 * text encoding. All are exponentially weighted averages. Sizes not generated for five minutes are dropped.
 *
 * An encoding counts as long as a decoding until one of that size was measured.
 *
 * An unmeasured size gets the lowest measured cost of a latent pixel, because small images have fixed costs per run. This underestimates much
 * larger images, where attention grows faster than the area.
 */
export interface GenerationEstimate {
  /** Number of measured images, all sizes. The warm-up does not count. */
  readonly generations: number;
  /** Returns the number of measured images of the same size. */
  generationsLike(work: GenerationWork): number;
  /** Returns the estimated time in milliseconds; 0 without measurements. */
  of(work: GenerationWork): number;
  record(work: GenerationWork, measured: MeasuredGeneration): void;
}

/** Weight of the newest generation in the moving average. */
const smoothing = 0.3;
/** Maximum age of measurements, in milliseconds: load or device may have changed. */
const staleMs = 300_000;
/** Maximum number of sizes kept; the least recently generated one is dropped first. */
const maxSizes = 32;

/** Compute the work of an image from its settings. */
export function generationWork(settings: GenerationSettings, limits: GenerationLimits): GenerationWork {
  const { width, height, strength } = settings;
  return {
    unetRuns: stepsToRun(settings) * (needsSecondRun(settings, limits) ? 2 : 1),
    latentPixels: (width / limits.sizes.vaeFactor) * (height / limits.sizes.vaeFactor),
    ...(strength !== undefined && { encodes: true }),
  };
}

/** Average times of one image size, in milliseconds. */
interface Measured {
  readonly latentPixels: number;
  readonly generations: number;
  readonly runMs: number;
  readonly decodeMs: number;
  /** Undefined before the first one. */
  readonly encodeMs: number | undefined;
  readonly at: number;
}

/** @param now monotonic clock, in milliseconds. */
export function createGenerationEstimate(now: () => number = () => performance.now()): GenerationEstimate {
  /** By latent pixels, the most recently generated last. */
  const sizes = new Map<number, Measured>();
  let restMs: number | undefined;
  const movingAverage = (average: number | undefined, value: number) =>
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

  /** Estimates a UNet run or a decoding at a size. */
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
    of({ unetRuns, latentPixels, encodes = false }) {
      const known = fresh();
      if (known.length === 0) {
        return 0;
      }
      const runMs = costAt(latentPixels, known, (size) => size.runMs);
      const encodeMs = encodes ? costAt(latentPixels, known, (size) => size.encodeMs ?? size.decodeMs) : 0;
      return (restMs ?? 0) + encodeMs + unetRuns * runMs + costAt(latentPixels, known, (size) => size.decodeMs);
    },
    record({ unetRuns, latentPixels }, { totalMs, vaeEncodeMs, denoisingMs, vaeDecodeMs }) {
      const known = fresh();
      const before = known.find((size) => size.latentPixels === latentPixels);
      const stagesMs = (vaeEncodeMs ?? 0) + denoisingMs + vaeDecodeMs;
      restMs = movingAverage(known.length === 0 ? undefined : restMs, Math.max(0, totalMs - stagesMs));
      sizes.delete(latentPixels);
      sizes.set(latentPixels, {
        latentPixels,
        generations: (before?.generations ?? 0) + 1,
        runMs: movingAverage(before?.runMs, denoisingMs / unetRuns),
        decodeMs: movingAverage(before?.decodeMs, vaeDecodeMs),
        encodeMs: vaeEncodeMs === undefined ? before?.encodeMs : movingAverage(before?.encodeMs, vaeEncodeMs),
        at: now(),
      });
      const [oldest] = sizes.keys();
      if (sizes.size > maxSizes && oldest !== undefined) {
        sizes.delete(oldest);
      }
    },
  };
}
