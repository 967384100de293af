import type { Attributes, AttributeValue } from "@opentelemetry/api";
import type { SpanRecord } from "../trace/span-record.js";
import { buildTraceTree, depthFirst, durationNanos, type TraceNode } from "./trace-tree.js";

/** What a style makes of text: colours of services, red for errors, dim for figures. */
export type TraceFormat = (typeof serviceColors)[number] | "red" | "dim";

export interface TraceTextOptions {
  /** Characters of the longest bar. @default 30, at most 60 where there are `columns` */
  readonly barWidth?: number;
  /**
   * Characters that a line may have. Bars take what is left; where that is little the services go, and then the bars. Absent: as many as it
   * takes. Errors and details may be longer.
   */
  readonly columns?: number;
  /** Puts colours on the text. Absent: it stays plain. */
  readonly style?: (format: TraceFormat, text: string) => string;
  /** Below each span its attributes, and its events with the time since it began. @default false */
  readonly details?: boolean;
}

/** In the order in which the services appear, over and over. */
const serviceColors = ["cyan", "magenta", "yellow", "green", "blue"] as const;

/**
 * Writes a trace as a tree for a terminal: name, service, duration and, to scale, when in the trace the span ran. Below a span that failed
 * stands what its status says.
 *
 *     image-pipeline             image-pipeline         1.53 s  ██████████████████████████████
 *     ├── preprocess-prompt      image-pipeline        0.41 ms  ▏
 *     ├── call-inference-worker  image-pipeline         1.52 s   █████████████████████████████
 *     └── inference              text-to-image-worker   1.50 s   ████████████████████████████
 *
 * The scale is the time of the roots. A span that by another machine's clock ran outside of it is drawn at its edge. Long names are cut,
 * and what is deeper than 50 levels is drawn at the 50th. One that is still running is so until the end of the scale.
 */
export function formatTrace(spans: readonly SpanRecord[], options: TraceTextOptions = {}): string {
  const { style = (_, text) => text, details = false } = options;
  const roots = buildTraceTree(spans);
  const rows = toRows(roots);
  const { nameWidth, serviceWidth, barWidth } = fit(rows, options);
  const scale = createTraceScale(roots, barWidth);
  const colors = new Map<string, TraceFormat>();
  const colorOf = (service: string): TraceFormat => {
    const color = colors.get(service) ?? serviceColors[colors.size % serviceColors.length] ?? "cyan";
    colors.set(service, color);
    return color;
  };
  return rows
    .flatMap(({ branch, name, service, span, below }) => {
      const failed = span.status.code === "ERROR";
      const color = colorOf(service);
      const shownName = clip(name, nameWidth - branch.length);
      const cells = [
        style("dim", branch) + (failed ? style("red", shownName) : shownName) + pad(branch + shownName, nameWidth),
        ...(serviceWidth === 0 ? [] : [style(color, service) + pad(service, serviceWidth)]),
        style("dim", timeOf(span).padStart(durationWidth)),
        ...(barWidth === 0 ? [] : [style(failed ? "red" : color, scale(span).trimEnd())]),
      ];
      return [
        cells.join("  "),
        ...(failed ? [style("dim", below) + style("red", `ERROR ${printable(span.status.message)}`.trim())] : []),
        ...(details ? detailsOf(span).map((line) => style("dim", below + line)) : []),
      ];
    })
    .join("\n");
}

interface Row {
  /** What leads to the name. */
  readonly branch: string;
  readonly name: string;
  readonly service: string;
  readonly span: SpanRecord;
  /** Prefix of further lines about the span. */
  readonly below: string;
}

/** Deeper spans stand here: a line per span that is indented by all of its ancestors would make the text grow with their square. */
const deepestLevel = 50;

function toRows(roots: readonly TraceNode[]): Row[] {
  /** By level, what stands before the branches of the spans below the one that was drawn there last. */
  const below: string[] = [];
  const places = [...depthFirst(roots)];
  return places.map(({ span, depth, last }, i) => {
    const level = Math.min(depth, deepestLevel);
    const before = below[level - 1] ?? "";
    const ahead = level === 0 ? "" : before + (last ? "    " : "│   ");
    below[level] = ahead;
    const isParent = (places[i + 1]?.depth ?? 0) > depth;
    return {
      branch: level === 0 ? "" : before + (last ? "└── " : "├── "),
      name: printable(span.name),
      service: printable(span.service),
      span,
      below: `${ahead}${isParent ? "│" : " "}   `,
    };
  });
}

const durationWidth = 8;
const widestBar = 60;
/** With fewer columns the service's name replaces the bar, and below the second number nothing does. */
const leastBars = { besideService: 10, alone: 6 };

/** Shares a line's columns out; a width of 0 leaves the column away. */
function fit(rows: readonly Row[], { columns, barWidth = 30 }: TraceTextOptions) {
  const nameWidth = Math.max(0, ...rows.map(({ branch, name }) => branch.length + name.length));
  const serviceWidth = Math.max(0, ...rows.map(({ service }) => service.length));
  if (columns === undefined) {
    return { nameWidth, serviceWidth, barWidth };
  }
  const alone = columns - nameWidth - durationWidth - 4;
  const beside = alone - serviceWidth - 2;
  if (beside >= leastBars.besideService) {
    return { nameWidth, serviceWidth, barWidth: Math.min(beside, widestBar) };
  }
  return alone >= leastBars.alone
    ? { nameWidth, serviceWidth: 0, barWidth: Math.min(alone, widestBar) }
    : { nameWidth: Math.min(nameWidth, columns - durationWidth - 2), serviceWidth: 0, barWidth: 0 };
}

function clip(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`;
}

function pad(text: string, width: number): string {
  return " ".repeat(Math.max(0, width - text.length));
}

/** Characters of an attribute's value; a list of addresses has its place in them. */
const maxValueLength = 1000;

function detailsOf({ attributes, events, startUnixNano }: SpanRecord): string[] {
  return [
    ...attributeText(attributes),
    ...events.map(({ name, timeUnixNano, attributes }) => {
      const since = timeUnixNano > startUnixNano ? timeUnixNano - startUnixNano : 0n;
      return [`+${formatDuration(since)}`, printable(name), ...attributeText(attributes)].join("  ");
    }),
  ];
}

function attributeText(attributes: Attributes): string[] {
  return Object.entries(attributes).map(([key, value]) => `${printable(key)}=${valueText(value)}`);
}

function valueText(value: AttributeValue | undefined): string {
  return printable(typeof value === "string" ? value : JSON.stringify(value ?? null), maxValueLength);
}

function timeOf(span: SpanRecord): string {
  return isRunning(span) ? "running" : formatDuration(durationNanos(span));
}

/** @example `0.41 ms`, `41.2 ms`, `412 ms`, `1.53 s` */
export function formatDuration(nanos: bigint): string {
  const ms = Number(nanos) / 1e6;
  const [value, unit] = ms < 999.5 ? [ms, "ms"] : [ms / 1000, "s"];
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${unit}`;
}

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

/**
 * A text of at most `maxLength` characters, an ellipsis included where it was longer. The result is a copy: a part of a string would keep the
 * whole of it in memory.
 */
export function clipText(text: string, maxLength: number): string {
  return text.length > maxLength ? Buffer.from(`${text.slice(0, maxLength - 1)}…`).toString() : text;
}

/**
 * Foreign text for one line of a terminal: characters that control the terminal, reverse the line or break it are replaced by a mark, and what is
 * longer than `maxLength` characters is cut.
 */
export function printable(text: string, maxLength = 120): string {
  return clipText(text, maxLength).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, "\ufffd");
}
