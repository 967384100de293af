import assert from "node:assert/strict";
import type { Engine, PaintEvent, PaintRequest } from "../../src/engine/engine.js";

type ImageEvent = Extract<PaintEvent, { kind: "image" }>;

/** Everything that happens while one picture is painted. */
export async function paintEvents(engine: Engine, request: PaintRequest, signal?: AbortSignal): Promise<PaintEvent[]> {
  const events: PaintEvent[] = [];
  for await (const event of engine.paint(request, signal ?? new AbortController().signal)) {
    events.push(event);
  }
  return events;
}

/** Paints one picture and returns its last event. */
export async function paintOnce(engine: Engine, request: PaintRequest): Promise<ImageEvent> {
  const last = (await paintEvents(engine, request)).at(-1);
  assert.ok(last?.kind === "image");
  return last;
}

/** Peak signal-to-noise ratio of two pictures of 8-bit values, in dB. */
export function psnr(one: Uint8Array, other: Uint8Array): number {
  assert.equal(one.length, other.length);
  const squares = one.reduce((sum, value, i) => sum + (value - (other[i] ?? 0)) ** 2, 0);
  return 10 * Math.log10(255 ** 2 / (squares / one.length));
}
