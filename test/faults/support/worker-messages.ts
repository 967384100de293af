import type { SpanRecord } from "../../../src/trace/span-record.js";

/** Message to a worker process: whether its generations stop at their second step. */
export interface WorkerOrder {
  readonly hold: boolean;
}

/** Message from a worker process. */
export type WorkerReport =
  | { readonly kind: "ready"; readonly port: number }
  | { readonly kind: "holding" }
  | { readonly kind: "spans"; readonly spans: readonly SpanRecord[] };
