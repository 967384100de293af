import type { SpanRecord } from "../../../src/trace/span-record.js";

/** What a call came to, for who made it and on its trace. */
export interface Seen {
  /** `OK`, or the code as gRPC writes it. */
  readonly code: string;
  /** The error's words; empty for an image. */
  readonly words: string;
  /** Milliseconds of performance.now at its end. */
  readonly endedAt: number;
  /** Milliseconds that it took. */
  readonly tookMs: number;
  /** Its attempts, from the events of `call-inference-worker`. */
  readonly attempts: readonly Attempt[];
  /** Its spans, the worker's among them where they came. */
  readonly spans: readonly SpanRecord[];
}

/** An attempt of a call, from its event. */
export interface Attempt {
  readonly host: string;
  readonly code: string;
  /** Why another one followed; empty where none did. */
  readonly retryReason: string;
}

/** The attempts on a trace. */
export function attemptsOf(spans: readonly SpanRecord[]): Attempt[] {
  return spans
    .filter(({ name }) => name === "call-inference-worker")
    .flatMap(({ events }) => events.filter(({ name }) => name === "attempt"))
    .map(({ attributes }) => ({
      host: String(attributes["server.address"]),
      code: String(attributes["rpc.response.status_code"]),
      retryReason: String(attributes["attempt.retry_reason"] ?? ""),
    }));
}
