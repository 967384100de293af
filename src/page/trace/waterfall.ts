import type { Span } from "../../gen/throughline/studio/v1/studio_pb.js";

/** A span as a line of the waterfall. Shares are of the whole trace's time, 0 to 1. */
export interface WaterfallRow {
  readonly span: Span;
  /** 0 for a root. */
  readonly depth: number;
  /** Its place among the children of its parent, from 1. */
  readonly place: number;
  /** How many children its parent has. */
  readonly places: number;
  /** Row of its parent, or undefined for a root. */
  readonly parentRow: number | undefined;
  readonly startShare: number;
  readonly widthShare: number;
  /** From its beginning to its end, or until now while it runs. */
  readonly durationMs: number;
  readonly running: boolean;
  readonly events: readonly EventTick[];
}

/** A moment on a bar. */
export interface EventTick {
  readonly name: string;
  readonly share: number;
  /** Since the beginning of the trace. */
  readonly atMs: number;
}

/** A mark of the axis. */
export interface AxisTick {
  readonly share: number;
  readonly label: string;
}

/** A trace, drawn to scale. */
export interface Waterfall {
  /** Parents before their children, children in the order of their beginnings. */
  readonly rows: readonly WaterfallRow[];
  readonly durationMs: number;
  readonly running: boolean;
}

/** End of a span that runs. */
const runningEnd = 0n;

/**
 * Lays out a trace. A span without a known parent is a root, and so are spans that name each other as parents, so none is lost.
 *
 * @param nowUnixMs by the clock of the services: where a running span's bar ends.
 */
export function layOutWaterfall(spans: readonly Span[], nowUnixMs: number): Waterfall {
  const nowNano = BigInt(Math.round(nowUnixMs * 1e6));
  const endOf = (span: Span) => later(span.endUnixNano === runningEnd ? nowNano : span.endUnixNano, span.startUnixNano);
  // Not from now: a clock that was read before the trace began would start the axis too early.
  const start = spans.reduce(
    (first, { startUnixNano }) => (startUnixNano < first ? startUnixNano : first),
    spans[0]?.startUnixNano ?? nowNano,
  );
  const end = spans.reduce((last, span) => later(last, endOf(span)), start);
  const durationMs = millis(end - start);
  const share = (nano: bigint) => (durationMs === 0 ? 0 : Math.min(1, Math.max(0, millis(nano - start) / durationMs)));

  const rows = inTreeOrder(spans).map(({ span, ...place }) => ({
    span,
    ...place,
    startShare: share(span.startUnixNano),
    widthShare: share(endOf(span)) - share(span.startUnixNano),
    durationMs: millis(endOf(span) - span.startUnixNano),
    running: span.endUnixNano === runningEnd,
    events: span.events.map(({ name, timeUnixNano }) => ({
      name,
      share: share(timeUnixNano),
      atMs: millis(timeUnixNano - start),
    })),
  }));
  return { rows, durationMs, running: rows.some(({ running }) => running) };
}

type Placed = Pick<WaterfallRow, "span" | "depth" | "place" | "places" | "parentRow">;

/** The tree that the command line prints, line by line. It keeps its own stack: a trace may be as deep as it has spans. */
function inTreeOrder(spans: readonly Span[]): Placed[] {
  const sorted = spans.toSorted(compareStart);
  const ids = new Set(sorted.map(({ spanId }) => spanId));
  const childrenOf = new Map<string, Span[]>();
  for (const span of sorted) {
    const siblings = childrenOf.get(span.parentSpanId) ?? [];
    siblings.push(span);
    childrenOf.set(span.parentSpanId, siblings);
  }
  const placed: Placed[] = [];
  const seen = new Set<Span>();
  const open: { readonly siblings: readonly Span[]; next: number; readonly parentRow: number | undefined }[] = [];
  const enter = (spansOfOne: readonly Span[], parentRow: number | undefined) => {
    const siblings = spansOfOne.filter((span) => !seen.has(span));
    for (const span of siblings) {
      seen.add(span);
    }
    open.push({ siblings, next: 0, parentRow });
  };
  const walk = (roots: readonly Span[]) => {
    enter(roots, undefined);
    for (let level = open.at(-1); level !== undefined; level = open.at(-1)) {
      const { siblings, parentRow } = level;
      const span = siblings[level.next++];
      if (span === undefined) {
        open.pop();
      } else {
        const row = placed.length;
        placed.push({ span, depth: open.length - 1, place: level.next, places: siblings.length, parentRow });
        enter(childrenOf.get(span.spanId) ?? [], row);
      }
    }
  };
  walk(sorted.filter(({ parentSpanId }) => !ids.has(parentSpanId)));
  // What is left goes in circles: each circle is cut at its first span.
  for (const span of sorted) {
    walk([span]);
  }
  return placed;
}

/**
 * Order of siblings. Start times are whole milliseconds and often equal; then a call precedes the spans that it caused in another service,
 * ended spans are ordered by their end, and running ones are last.
 */
function compareStart(a: Span, b: Span): number {
  const isCall = (span: Span) => Number(span.kind === "CLIENT");
  const runs = (span: Span) => Number(span.endUnixNano === runningEnd);
  return (
    compare(a.startUnixNano, b.startUnixNano) ||
    (a.service === b.service ? 0 : isCall(b) - isCall(a)) ||
    runs(a) - runs(b) ||
    compare(a.endUnixNano, b.endUnixNano)
  );
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

const mostTicks = 5;

/** Round numbers from one time to another, at most six of them: 1, 2 or 5 times a power of ten apart. Shares are of the time between. */
export function axisOf(fromMs: number, toMs: number): AxisTick[] {
  const durationMs = toMs - fromMs;
  if (durationMs <= 0) {
    return [];
  }
  const power = 10 ** Math.floor(Math.log10(durationMs / mostTicks));
  const apart = ([1, 2, 5, 10].find((factor) => durationMs / (factor * power) <= mostTicks) ?? 10) * power;
  const first = Math.ceil(fromMs / apart);
  const count = Math.floor(toMs / apart) - first;
  return Array.from({ length: count + 1 }, (_, index) => {
    const atMs = (first + index) * apart;
    return { share: (atMs - fromMs) / durationMs, label: atMs === 0 ? "0" : shortDuration(atMs) };
  });
}

/** Without the zeros that an axis has no use for: `0.5 s`, `20 ms`. Six digits, for a small part of a long trace. */
function shortDuration(ms: number): string {
  return ms < 1000 ? `${Number(ms.toPrecision(6))} ms` : `${Number((ms / 1000).toPrecision(6))} s`;
}

function millis(nanos: bigint): number {
  return Number(nanos) / 1e6;
}

function later(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
