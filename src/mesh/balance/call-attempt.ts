import { type Code, createContextKey } from "@connectrpc/connect";

/** One attempt of a call, after its end. */
export interface CallAttempt {
  /** 1 for the first. */
  readonly number: number;
  /** Host, or the path of a Unix socket. */
  readonly address: string;
  readonly port: number | undefined;
  /** The code it ended with; undefined means OK. */
  readonly code: Code | undefined;
  /** Why the call was then made on another worker, or again: the worker's own words, which are written for callers. Else undefined. */
  readonly retryReason: string | undefined;
}

/** Context key of a call: told each attempt at its end. `createContextValues().set(attemptListener, (attempt) => …)`. */
export const attemptListener = createContextKey<(attempt: CallAttempt) => void>(() => {}, { description: "attempts" });
