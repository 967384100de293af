import type { SpanRecord } from "../trace/span-record.js";
import { depthFirst, durationNanos, type TraceNode } from "./trace-tree.js";

/** Whether a span has not ended yet. */
export function isRunning({ endUnixNano }: SpanRecord): boolean {
  return endUnixNano === 0n;
}

/**
 * Draws when a span ran, as a bar of at most `width` characters. The scale is the time of the roots; while one of them runs, it goes to the
 * last that is known of any span.
 */
export function createTraceScale(roots: readonly TraceNode[], width: number): (span: SpanRecord) => string {
  const scaling = roots.some(({ span }) => isRunning(span))
    ? Array.from(depthFirst(roots), ({ span }) => span)
    : roots.map(({ span }) => span);
  const moments = scaling
    .flatMap(({ startUnixNano, endUnixNano }) => (endUnixNano === 0n ? [startUnixNano] : [startUnixNano, endUnixNano]))
    .sort((a, b) => Number(a - b));
  const start = moments[0] ?? 0n;
  const end = moments.at(-1) ?? start;
  const total = Number(end - start);
  const column = (time: bigint) => {
    const share = total === 0 ? 0 : Number(time - start) / total;
    return Math.round(Math.min(Math.max(share, 0), 1) * width);
  };
  return (span) => {
    const from = column(span.startUnixNano);
    const to = isRunning(span) ? width : column(span.startUnixNano + durationNanos(span));
    return to > from ? " ".repeat(from) + "█".repeat(to - from) : `${" ".repeat(Math.min(from, width - 1))}▏`;
  };
}
