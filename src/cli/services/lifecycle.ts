import { CliError, type EndingSignal, endingSignals, exitCodeOf, exitCodes } from "../errors.js";

/** One Ctrl-C may reach a process twice: from the terminal, and from the program that started it. */
const sameKeypressMs = 500;

/**
 * Handles the signals that end this process: the first aborts the returned signal, with the CliError to end with as its reason; a second
 * one exits at once, with 128 and the signal's number as the exit code.
 *
 * @param ignored signals without effect on this process.
 */
export function listenToEndingSignals(ignored: readonly EndingSignal[] = []): AbortSignal {
  const interrupt = new AbortController();
  let interruptedAt = 0;
  for (const signal of endingSignals) {
    process.on(signal, () => {
      if (ignored.includes(signal)) {
        return;
      }
      if (!interrupt.signal.aborted) {
        interruptedAt = performance.now();
        interrupt.abort(new CliError("interrupted", { exitCode: exitCodeOf(signal) }));
      } else if (performance.now() - interruptedAt > sameKeypressMs) {
        process.exit(exitCodeOf(signal));
      }
    });
  }
  return interrupt.signal;
}

/** Exits once all output is written. */
export async function endProcess(exitCode: number): Promise<never> {
  await Promise.all([flush(process.stdout), flush(process.stderr)]);
  process.exit(exitCode);
}

export function exitCodeOfFailure(error: unknown): number {
  return error instanceof CliError ? error.exitCode : exitCodes.failed;
}

/** Resolves when all output is written, or when its reader is gone. */
function flush(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.writable) {
      stream.write("", () => resolve());
    } else {
      resolve();
    }
  });
}

/** Resolves when the signal is aborted, at once if it is already. */
export function whenAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
    } else {
      signal.addEventListener("abort", () => resolve(), { once: true });
    }
  });
}

/** Rejects with the signal's reason when it is aborted; for races. */
export async function rejectWhenAborted(signal: AbortSignal): Promise<never> {
  await whenAborted(signal);
  throw signal.reason;
}
