import type { PaintLimits, PaintSettings, PaintTimings } from "../engine/engine.js";
import { needsSecondRun } from "../engine/paint-settings.js";

/** How much there is to do for a picture, whatever the machine. */
export interface PaintingWork {
  /** Evaluations of the UNet. */
  readonly unetRuns: number;
  /** Latents of one channel. */
  readonly latentPixels: number;
}

/** What a painting took. */
export interface MeasuredPainting extends Pick<PaintTimings, "denoisingMs" | "vaeDecodeMs"> {
  /** From its turn to its end. */
  readonly totalMs: number;
}

/**
 * Estimates how long pictures take, from those that were painted: so many milliseconds for each UNet run and latent pixel, so many for
 * each latent pixel that the VAE decodes, and a fixed rest (text encoding, hand-over). Each of the three is an exponentially weighted
 * average. That is right for the size that was last painted; attention grows faster than the area, so a larger picture takes
 * longer than is estimated from smaller ones, and a smaller one less.
 */
export interface PaintingEstimate {
  /** Pictures that it is made from. 0: everything is unknown; the warm-up does not count, it is small and cold. */
  readonly paintings: number;
  /** Expected milliseconds; 0 while nothing has been painted. */
  of(work: PaintingWork): number;
  learn(work: PaintingWork, measured: MeasuredPainting): void;
}

/** Weight of the newest painting; the last handful count. */
const smoothing = 0.3;

/** The work of a picture, once its settings are known. */
export function paintingWork(settings: PaintSettings, limits: PaintLimits): PaintingWork {
  const { width, height, steps } = settings;
  return {
    unetRuns: steps * (needsSecondRun(settings, limits) ? 2 : 1),
    latentPixels: (width / limits.sizes.vaeFactor) * (height / limits.sizes.vaeFactor),
  };
}

export function createPaintingEstimate(): PaintingEstimate {
  let paintings = 0;
  let runMs = 0;
  let decodeMs = 0;
  let restMs = 0;
  const follow = (average: number, value: number) =>
    paintings === 0 ? value : average + smoothing * (value - average);
  return {
    get paintings() {
      return paintings;
    },
    of: ({ unetRuns, latentPixels }) => restMs + latentPixels * (decodeMs + unetRuns * runMs),
    learn({ unetRuns, latentPixels }, { totalMs, denoisingMs, vaeDecodeMs }) {
      runMs = follow(runMs, denoisingMs / unetRuns / latentPixels);
      decodeMs = follow(decodeMs, vaeDecodeMs / latentPixels);
      restMs = follow(restMs, Math.max(0, totalMs - denoisingMs - vaeDecodeMs));
      paintings++;
    },
  };
}
