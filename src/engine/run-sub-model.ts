import { setImmediate } from "node:timers/promises";
import { PaintError } from "./paint-error.js";
import type { InputTensor, ModelSession, OutputReader } from "./sessions.js";

/**
 * Runs a graph once as a part of painting: not when the painting is aborted, and with a failure as PaintError.
 *
 * @throws the signal's reason when it is aborted; PaintError `failed` when the run fails.
 */
export async function runSubModel(
  session: ModelSession,
  feeds: Readonly<Record<string, InputTensor>>,
  wanted: readonly string[],
  signal: AbortSignal,
): Promise<OutputReader> {
  // A run blocks the thread. The event loop turns once before it, so that an abort that has arrived is seen.
  await setImmediate();
  signal.throwIfAborted();
  try {
    return await session.run(feeds, wanted);
  } catch (cause) {
    const outOfMemory = cause instanceof Error && /alloc|out of memory/iu.test(cause.message);
    const reason = outOfMemory
      ? "the engine ran out of memory; a smaller picture needs less"
      : "the model failed while it ran";
    throw new PaintError("failed", reason, { cause });
  }
}
