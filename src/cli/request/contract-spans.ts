import type { SpanRecord } from "../../trace/span-record.js";

/** The spans that one request makes, as the contract says. */
const contractSpans = [
  "image-pipeline",
  "preprocess-prompt",
  "call-inference-worker",
  "inference",
  "diffusion",
  "upload",
] as const;

/**
 * The contract's spans that have not arrived, or not ended. When none is missing the trace is whole, further spans included: what a service
 * made of a request ends, and is exported, before its `image-pipeline` or its `inference`.
 */
export function missingSpans(spans: readonly SpanRecord[]): string[] {
  const ended = new Set(spans.filter(({ endUnixNano }) => endUnixNano !== 0n).map(({ name }) => name));
  return contractSpans.filter((name) => !ended.has(name));
}
