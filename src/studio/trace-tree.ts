import type { Attributes } from "@opentelemetry/api";
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
 * made parents go in a circle. The tree may be as deep as there are spans: walk it by {@link depthFirst}.
 */
export function buildTraceTree(spans: readonly SpanRecord[]): TraceNode[] {
  const nodes = spans.toSorted(compareStart).map((span) => ({ span, children: [] as TraceNode[] }));
  const ids = new Set(nodes.map(({ span }) => span.spanId));
  const byParent = new Map<string, typeof nodes>();
  for (const node of nodes) {
    const siblings = byParent.get(node.span.parentSpanId) ?? [];
    siblings.push(node);
    byParent.set(node.span.parentSpanId, siblings);
  }
  const placed = new Set<TraceNode>();
  const grow = (root: (typeof nodes)[number]): TraceNode => {
    placed.add(root);
    const growing = [root];
    for (const { span, children } of growing) {
      for (const child of byParent.get(span.spanId) ?? []) {
        if (!placed.has(child)) {
          placed.add(child);
          children.push(child);
          growing.push(child);
        }
      }
    }
    return root;
  };
  const roots = nodes.filter(({ span }) => !ids.has(span.parentSpanId)).map(grow);
  // What is left goes in circles: each circle is cut at its first span.
  return [...roots, ...nodes.flatMap((node) => (placed.has(node) ? [] : [grow(node)]))];
}

/** Position of a span in its tree. */
export interface TracePlace {
  readonly span: SpanRecord;
  /** 0 for a root. */
  readonly depth: number;
  /** Whether it is the last of its siblings. */
  readonly last: boolean;
}

/** Walks trees, parents before their children. It keeps its own stack: exporters decide how deep a trace is. */
export function* depthFirst(roots: readonly TraceNode[]): Generator<TracePlace> {
  const open = [{ nodes: roots, next: 0 }];
  for (let level = open.at(-1); level !== undefined; level = open.at(-1)) {
    const node = level.nodes[level.next++];
    if (node === undefined) {
      open.pop();
    } else {
      yield { span: node.span, depth: open.length - 1, last: level.next === level.nodes.length };
      open.push({ nodes: node.children, next: 0 });
    }
  }
}

/** Duration of a span in nanoseconds; 0 if its end is before its start. */
export function durationNanos(span: SpanRecord): bigint {
  return span.endUnixNano > span.startUnixNano ? span.endUnixNano - span.startUnixNano : 0n;
}

/**
 * Order of siblings. Start times are whole milliseconds and often equal; then a call precedes the spans that it caused in another service,
 * ended spans are ordered by their end, and running ones are last. The page's waterfall has the same order.
 */
function compareStart(a: SpanRecord, b: SpanRecord): number {
  const isCall = (span: SpanRecord) => Number(span.kind === "CLIENT");
  const runs = (span: SpanRecord) => Number(span.endUnixNano === 0n);
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
