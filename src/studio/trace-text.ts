import type { SpanRecord } from "../trace/span-record.js";
import { printable } from "./printable.js";
import { buildTraceTree, depthFirst, durationNanos, type TraceNode } from "./trace-tree.js";

export interface TraceTextOptions {
  /** Characters of the longest bar. Default 30. */
  readonly barWidth?: number;
}

/**
 * Writes a trace as a tree for a terminal: name, service, duration and, to scale, when in the trace the span ran.
 *
 *     image-pipeline             image-pipeline         1.53 s  ██████████████████████████████
 *     ├── preprocess-prompt      image-pipeline        0.41 ms  ▏
 *     ├── call-inference-worker  image-pipeline         1.52 s   █████████████████████████████
 *     └── inference              text-to-image-worker   1.50 s   ████████████████████████████
 *
 * The scale is the time of the roots. A span that by another machine's clock ran outside of it is drawn at its edge. Long names are cut,
 * and what is deeper than 50 levels is drawn at the 50th.
 */
export function formatTrace(spans: readonly SpanRecord[], options: TraceTextOptions = {}): string {
  const roots = buildTraceTree(spans);
  const scale = createScale(roots, options.barWidth ?? 30);
  const rows = toRows(roots);
  const nameWidth = Math.max(0, ...rows.map((row) => row.name.length));
  const serviceWidth = Math.max(0, ...rows.map((row) => row.service.length));
  return rows
    .map(({ name, service, span }) =>
      [
        name.padEnd(nameWidth),
        service.padEnd(serviceWidth),
        formatDuration(durationNanos(span)).padStart(8),
        scale(span) + (span.status.code === "ERROR" ? `  ${printable(`ERROR ${span.status.message}`.trim())}` : ""),
      ].join("  "),
    )
    .join("\n");
}

interface Row {
  readonly name: string;
  readonly service: string;
  readonly span: SpanRecord;
}

/** Deeper spans stand here: a line per span that is indented by all of its ancestors would make the text grow with their square. */
const deepestLevel = 50;

function toRows(roots: readonly TraceNode[]): Row[] {
  /** By level, what stands before the branches of the spans below the one that was drawn there last. */
  const below: string[] = [];
  return Array.from(depthFirst(roots), ({ span, depth, last }) => {
    const level = Math.min(depth, deepestLevel);
    const before = below[level - 1] ?? "";
    below[level] = level === 0 ? "" : before + (last ? "    " : "│   ");
    const branch = level === 0 ? "" : before + (last ? "└── " : "├── ");
    return { name: branch + printable(span.name), service: printable(span.service), span };
  });
}

/** @example `0.41 ms`, `41.2 ms`, `412 ms`, `1.53 s` */
export function formatDuration(nanos: bigint): string {
  const ms = Number(nanos) / 1e6;
  const [value, unit] = ms < 999.5 ? [ms, "ms"] : [ms / 1000, "s"];
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${unit}`;
}

/** Draws the bar of a span. */
function createScale(roots: readonly TraceNode[], width: number): (span: SpanRecord) => string {
  const moments = roots.flatMap(({ span }) => [span.startUnixNano, span.endUnixNano]).sort((a, b) => Number(a - b));
  const start = moments[0] ?? 0n;
  const end = moments.at(-1) ?? start;
  const total = Number(end - start);
  const column = (time: bigint) => {
    const share = total === 0 ? 0 : Number(time - start) / total;
    return Math.round(Math.min(Math.max(share, 0), 1) * width);
  };
  return (span) => {
    const from = column(span.startUnixNano);
    const to = column(span.startUnixNano + durationNanos(span));
    const bar = to > from ? " ".repeat(from) + "█".repeat(to - from) : `${" ".repeat(Math.min(from, width - 1))}▏`;
    return bar.padEnd(width);
  };
}
