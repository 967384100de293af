import assert from "node:assert/strict";
import type { Engine, GeneratedImage, GenerationEvent, GenerationRequest } from "../../src/engine/engine.js";

/** The events of one image. */
export async function generationEvents(
  engine: Engine,
  request: GenerationRequest,
  signal?: AbortSignal,
): Promise<GenerationEvent[]> {
  const events: GenerationEvent[] = [];
  await engine.generate(request, {
    signal: signal ?? new AbortController().signal,
    onEvent: (event) => void events.push(event),
  });
  return events;
}

/** Generates one image. */
export async function generateOnce(engine: Engine, request: GenerationRequest): Promise<GeneratedImage> {
  return engine.generate(request, { signal: new AbortController().signal });
}

/** Peak signal-to-noise ratio of two images of 8-bit values, in dB. */
export function psnr(one: Uint8Array, other: Uint8Array): number {
  assert.equal(one.length, other.length);
  const squares = one.reduce((sum, value, i) => sum + (value - (other[i] ?? 0)) ** 2, 0);
  return 10 * Math.log10(255 ** 2 / (squares / one.length));
}
