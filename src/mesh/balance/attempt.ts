import { type Code, createContextKey } from "@connectrpc/connect";

/** Why a call was made again. It stands on spans, so the text is always ours: a worker's own could hold anything, a prompt too. */
export type RetryReason =
  | "the worker is full"
  | "the worker is not available"
  | "the worker was lost over this call"
  | "the connection to the server was lost"
  | "no sign of the worker in time";

/** One attempt of a call, after its end. */
export interface CallAttempt {
  /** 1 for the first. */
  readonly number: number;
  /** Host, or the path of a Unix socket. */
  readonly address: string;
  readonly port: number | undefined;
  /** The code it ended with; undefined means OK. */
  readonly code: Code | undefined;
  /** Why the call was then made again; undefined where it was not. */
  readonly retryReason: RetryReason | undefined;
}

/** Context key of a call: called at the end of each attempt. `createContextValues().set(attemptListener, (attempt) => …)`. */
export const attemptListener = createContextKey<(attempt: CallAttempt) => void>(() => {}, { description: "attempts" });
