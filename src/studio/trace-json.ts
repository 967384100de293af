import type { Attributes } from "@opentelemetry/api";
import type { SpanRecord } from "../trace/span-record.js";
import { buildTraceTree, depthFirst, durationNanos } from "./trace-tree.js";

/** A span for programs. */
export interface SpanJson {
  readonly name: string;
  readonly service: string;
  /** `INTERNAL`, `SERVER`, `CLIENT`, `PRODUCER` or `CONSUMER`. */
  readonly kind: string;
  /** 16 hexadecimal digits. */
  readonly spanId: string;
  /** Empty for a root. */
  readonly parentSpanId: string;
  /** Milliseconds, with fractions. */
  readonly durationMs: number;
  readonly attributes: Attributes;
}

/** The spans of a trace for programs: parents before their children, siblings in the order in which they started. */
export function traceToJson(spans: readonly SpanRecord[]): { readonly spans: SpanJson[] } {
  return { spans: Array.from(depthFirst(buildTraceTree(spans)), ({ span }) => toJson(span)) };
}

function toJson(span: SpanRecord): SpanJson {
  const { name, service, kind, spanId, parentSpanId, attributes } = span;
  return { name, service, kind, spanId, parentSpanId, durationMs: Number(durationNanos(span)) / 1e6, attributes };
}
