import { interruptedBy } from "../command-error.js";
import { type EndingSignal, exitCodeOf } from "../exit-codes.js";

/** One Ctrl-C may reach a process twice: from the terminal, and passed on by the program that started it. */
const sameKeypressMs = 500;

/**
 * What SIGINT and SIGTERM do to this process from now on: the first aborts the signal that is given back, its reason being the
 * CommandError to end with; a further one ends the process at once, with 128 and the signal's number as its exit code.
 *
 * @param ignored signals that mean nothing to this process.
 */
export function listenToEndingSignals(ignored: ReadonlySet<EndingSignal> = new Set()): AbortSignal {
  const interrupt = new AbortController();
  let interruptedAt = 0;
  for (const signal of ["SIGINT", "SIGTERM"] as const satisfies EndingSignal[]) {
    process.on(signal, () => {
      if (ignored.has(signal)) {
        return;
      }
      if (!interrupt.signal.aborted) {
        interruptedAt = performance.now();
        interrupt.abort(interruptedBy(signal));
      } else if (performance.now() - interruptedAt > sameKeypressMs) {
        process.exit(exitCodeOf(signal));
      }
    });
  }
  return interrupt.signal;
}
