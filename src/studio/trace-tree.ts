import type { SpanRecord } from "../trace/span-record.js";

/** A span with the spans below it. */
export interface TraceNode {
  readonly span: SpanRecord;
  /** In the order in which they started. */
  readonly children: readonly TraceNode[];
}

/**
 * Puts the spans of a trace into a tree. Roots are the spans without a parent and those whose parent is not among the spans: it may
 * come later, or belong to a caller who exports elsewhere. Every span stands in the tree exactly once, also when a broken exporter
 * made parents go in a circle.
 */
export function buildTraceTree(spans: readonly SpanRecord[]): TraceNode[] {
  const sorted = spans.toSorted(compareStart);
  const ids = new Set(sorted.map((span) => span.spanId));
  const placed = new Set<SpanRecord>();
  const grow = (span: SpanRecord): TraceNode => {
    placed.add(span);
    const children = sorted.filter((other) => other.parentSpanId === span.spanId && !placed.has(other));
    for (const child of children) {
      placed.add(child);
    }
    return { span, children: children.map(grow) };
  };
  const roots = sorted.filter((span) => !ids.has(span.parentSpanId)).map(grow);
  // What is left goes in circles: each circle is cut at its first span.
  return [...roots, ...sorted.flatMap((span) => (placed.has(span) ? [] : [grow(span)]))];
}

/** Nanoseconds that a span took; 0 where the clocks say less. */
export function durationNanos(span: SpanRecord): bigint {
  return span.endUnixNano > span.startUnixNano ? span.endUnixNano - span.startUnixNano : 0n;
}

/**
 * Spans start on whole milliseconds, so that quick ones start together: a call stands before what it caused in another service,
 * else what ended first stands first.
 */
function compareStart(a: SpanRecord, b: SpanRecord): number {
  const isCall = (span: SpanRecord) => Number(span.kind === "CLIENT");
  return (
    compare(a.startUnixNano, b.startUnixNano) ||
    (a.service === b.service ? 0 : isCall(b) - isCall(a)) ||
    compare(a.endUnixNano, b.endUnixNano)
  );
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
