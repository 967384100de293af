import type { SpanRecord } from "../trace/span-record.js";

/** The spans that one request makes, as the contract says. */
export const contractSpans = [
  "image-pipeline",
  "preprocess-prompt",
  "call-inference-worker",
  "inference",
  "diffusion",
  "upload",
] as const;

/** Names of the contract's spans that a trace lacks. */
export function missingSpans(spans: readonly SpanRecord[]): string[] {
  return contractSpans.filter((name) => !spans.some((span) => span.name === name));
}

/** A span as `--json` tells of it. */
export interface ReportedSpan {
  readonly name: string;
  readonly service: string;
  readonly kind: string;
  readonly spanId: string;
  /** Empty for the root. */
  readonly parentSpanId: string;
  readonly durationMs: number;
  readonly attributes: SpanRecord["attributes"];
}

/** Spans for `--json`, in the order of their start. */
export function reportSpans(spans: readonly SpanRecord[]): ReportedSpan[] {
  return spans
    .toSorted((a, b) => Number(a.startUnixNano - b.startUnixNano))
    .map(({ name, service, kind, spanId, parentSpanId, startUnixNano, endUnixNano, attributes }) => ({
      name,
      service,
      kind,
      spanId,
      parentSpanId,
      durationMs: Number(endUnixNano - startUnixNano) / 1e6,
      attributes,
    }));
}
