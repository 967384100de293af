import { type Code, createContextKey } from "@connectrpc/connect";

/** Reason for a retry, as recorded on spans. A fixed text: a worker's own message could contain a prompt. */
export type RetryReason =
  | "the worker is full"
  | "the worker is not available"
  | "the engine died during this call"
  | "the connection to the server was lost"
  | "no response from the worker in time"
  | "the worker needs an older form of the request";

/** A finished attempt of a call. */
export interface CallAttempt {
  /** 1 for the first. */
  readonly number: number;
  /** Host, or the path of a Unix socket. */
  readonly address: string;
  readonly port: number | undefined;
  /** Status code; undefined means OK. */
  readonly code: Code | undefined;
  /** Reason for the retry that follows; undefined without one. */
  readonly retryReason: RetryReason | undefined;
}

/**
 * Context key of calls that occupy no slot of the worker, such as one for its description: `createContextValues().set(withoutLoad, true)`. They
 * are quick however slow the worker is, so they do not count for its load and its service time.
 */
export const withoutLoad = createContextKey(false, { description: "call without load" });

/** Context key for a listener of finished attempts: `createContextValues().set(attemptListener, (attempt) => …)`. */
export const attemptListener = createContextKey<(attempt: CallAttempt) => void>(() => {}, { description: "attempts" });
