import type { Logger } from "pino";
import type { Telemetry } from "../trace/telemetry/telemetry.js";

/** Milliseconds that a teardown may take before the app ends without it. */
export const teardownMs = 3_000;

/** What is left to do once the last call has ended. */
export interface EndAppOptions {
  readonly name: string;
  readonly teardown: (() => Promise<void>) | undefined;
  readonly telemetry: Pick<Telemetry, "shutdown">;
  readonly logger: Pick<Logger, "error">;
}

/**
 * Frees what the app took while its last spans leave. Never rejects, and resolves within 3.5 s (the telemetry's own limit) whatever hangs:
 * at the end of a process nobody could do anything about it, so it goes to the log.
 */
export async function endApp({ name, teardown, telemetry, logger }: EndAppOptions): Promise<void> {
  const freed = async () => {
    try {
      await within(teardownMs, teardown?.());
    } catch (error) {
      logger.error({ err: error }, `${name} could not free all that it took`);
    }
  };
  await Promise.all([freed(), telemetry.shutdown()]);
}

/** @throws Error when the work takes longer. */
async function within(timeoutMs: number, work: Promise<void> | undefined): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the teardown took longer than ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
