import type { TestContext } from "node:test";
import type { SpanRecord } from "../../../src/trace/span-record.js";

/** A real backend that runs. */
export interface Backend {
  /** What belongs into `OTEL_EXPORTER_OTLP_ENDPOINT`, by protocol. */
  readonly endpoints: { readonly grpc: string; readonly "http/protobuf": string };
  /** The spans of a trace as the backend gives them out, once it has so many. */
  trace(traceId: string, count: number): Promise<readonly SpanRecord[]>;
}

/** Starts one for a test. */
export type StartBackend = (t: TestContext) => Promise<Backend>;
