import { Code, ConnectError } from "@connectrpc/connect";
import { internal } from "../mesh/errors/errors.js";

/** What a worker says of the pipeline itself, not of the pipeline's caller. */
const notTheCallers: ReadonlySet<Code> = new Set([Code.Unauthenticated, Code.PermissionDenied, Code.Canceled]);

/** Longest text of a worker that is passed on, in code points. */
const maxMessageLength = 1_000;

/**
 * What the pipeline's caller is told of a failed call to a worker. A worker that does not let the pipeline in, or cancels, is INTERNAL, with
 * the code as the cause for the log; other failures stay, with a long text cut.
 *
 * @param signal the caller's: where it is aborted the failure is the caller's own.
 */
export function workerFailure(error: unknown, signal: AbortSignal): unknown {
  if (!(error instanceof ConnectError) || signal.aborted) {
    return error;
  }
  if (notTheCallers.has(error.code)) {
    return internal(
      "the worker did not take the pipeline's call",
      new Error(`the worker answered ${Code[error.code]}`),
    );
  }
  if (error.rawMessage.length > maxMessageLength) {
    const text = [...error.rawMessage.slice(0, 2 * maxMessageLength)].slice(0, maxMessageLength).join("");
    const cut = new ConnectError(text, error.code, error.metadata, undefined, error.cause);
    cut.details = error.details;
    return cut;
  }
  return error;
}
