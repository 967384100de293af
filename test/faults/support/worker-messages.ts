import type { SpanRecord } from "../../../src/trace/span-record.js";

/** What a worker's process is told: whether its generations stop at their second step. */
export interface WorkerOrder {
  readonly hold: boolean;
}

/** What a worker's process tells. */
export type WorkerReport =
  | { readonly kind: "ready"; readonly port: number }
  | { readonly kind: "holding" }
  | { readonly kind: "spans"; readonly spans: readonly SpanRecord[] };
