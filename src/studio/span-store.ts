import { Code } from "@connectrpc/connect";
import type { Attributes, AttributeValue } from "@opentelemetry/api";
import { createConnectError } from "../mesh/errors/errors.js";
import type { SpanRecord } from "../trace/span-record.js";

export interface SpanStoreOptions {
  /** Most spans that are kept. Beyond it the traces that were longest without a new span are forgotten. @default 20,000 */
  readonly maxSpans?: number;
  /** Most spans of one trace; more are dropped. @default 2,000 */
  readonly maxSpansPerTrace?: number;
  /** Most bytes that the spans take, as {@link spanBytes} estimates; beyond it traces are forgotten likewise. @default 64 MiB */
  readonly maxBytes?: number;
  /** Most bytes of one trace; spans beyond it are dropped. @default 16 MiB */
  readonly maxBytesPerTrace?: number;
  /** Milliseconds without an update after which a running span counts as lost: its process is gone. @default 30,000 */
  readonly lostAfterMs?: number;
  /** Most listeners. @default 256 */
  readonly maxListeners?: number;
  /** Milliseconds of a clock that never goes back. @default the process's */
  readonly now?: () => number;
}

/**
 * Spans in memory, by trace. Bounded: a collector that runs for days must not grow. A span whose end is 0 still runs; the ended span replaces it, never the
 * reverse.
 */
export interface SpanStore {
  /** Adds spans. One that is there already is replaced: an exporter that got no answer sends it again. */
  add(spans: readonly SpanRecord[]): void;
  /** Ended spans of a trace in the order in which they came; none for a trace that is not known. */
  spansOf(traceId: string): SpanRecord[];
  /** Spans of a trace that still run, in the order in which they began to come. */
  runningSpansOf(traceId: string): SpanRecord[];
  /** Whether a span of this store still runs: it has no end and had a recent update. */
  isRunning(span: SpanRecord): boolean;
  /** All spans, ended, running and lost: those of each trace by their ids. */
  traces(): Iterable<ReadonlyMap<string, SpanRecord>>;
  /** Traces from the one with the newest span to the one without for the longest time. */
  traceIds(): string[];
  /**
   * Calls back after each export with those of its spans that were taken.
   *
   * @returns what ends it.
   * @throws ConnectError RESOURCE_EXHAUSTED when there are too many listeners.
   */
  subscribe(listener: (spans: readonly SpanRecord[]) => void): () => void;
  /** How many listeners there are. */
  listenerCount(): number;
  /**
   * Resolves with the ended spans of a trace once `enough` returns true for them. It is called at once and after each export.
   *
   * @throws the reason of `signal` when that is aborted before.
   */
  waitForTrace(
    traceId: string,
    enough: (spans: readonly SpanRecord[]) => boolean,
    signal: AbortSignal,
  ): Promise<SpanRecord[]>;
}

/** Makes an empty store. */
export function createSpanStore(options: SpanStoreOptions = {}): SpanStore {
  const maxSpans = options.maxSpans ?? 20_000;
  const maxSpansPerTrace = options.maxSpansPerTrace ?? 2000;
  const maxBytes = options.maxBytes ?? 64 * 1024 * 1024;
  const maxBytesPerTrace = options.maxBytesPerTrace ?? 16 * 1024 * 1024;
  const lostAfterMs = options.lostAfterMs ?? 30_000;
  const maxListeners = options.maxListeners ?? 256;
  const now = options.now ?? (() => performance.now());
  /** By trace id; the traces stand in the order of their newest spans. */
  const traces = new Map<string, StoredTrace>();
  const waiting = new Map<string, Set<() => void>>();
  const listeners = new Set<(spans: readonly SpanRecord[]) => void>();
  /** Time of the last update of each running span. */
  const updatedAtMs = new WeakMap<SpanRecord, number>();
  let size = 0;
  let bytes = 0;

  /** Returns whether the span was stored. */
  const addOne = (span: SpanRecord): boolean => {
    const trace = traces.get(span.traceId) ?? { spans: new Map<string, SpanRecord>(), bytes: 0 };
    const older = trace.spans.get(span.spanId);
    if (older !== undefined && hasEnded(older) && !hasEnded(span)) {
      return false;
    }
    traces.delete(span.traceId);
    const more = spanBytes(span) - (older === undefined ? 0 : spanBytes(older));
    const hasPlace = older !== undefined || trace.spans.size < maxSpansPerTrace;
    const fits = hasPlace && trace.bytes + more <= Math.min(maxBytesPerTrace, maxBytes);
    if (fits) {
      trace.spans.set(span.spanId, span);
      trace.bytes += more;
      bytes += more;
      size += older === undefined ? 1 : 0;
      if (!hasEnded(span)) {
        updatedAtMs.set(span, now());
      }
    }
    if (trace.spans.size > 0) {
      traces.set(span.traceId, trace);
    }
    for (const [traceId, oldest] of traces) {
      if ((size <= maxSpans && bytes <= maxBytes) || traceId === span.traceId) {
        break;
      }
      traces.delete(traceId);
      size -= oldest.spans.size;
      bytes -= oldest.bytes;
    }
    return fits;
  };
  const allOf = (traceId: string) => [...(traces.get(traceId)?.spans.values() ?? [])];
  const spansOf = (traceId: string) => allOf(traceId).filter(hasEnded);
  const isRunning = (span: SpanRecord) => {
    const updatedAt = updatedAtMs.get(span);
    return updatedAt !== undefined && now() - updatedAt < lostAfterMs;
  };

  return {
    add(spans) {
      const taken = spans.filter(addOne);
      for (const traceId of new Set(spans.map((span) => span.traceId))) {
        for (const check of [...(waiting.get(traceId) ?? [])]) {
          check();
        }
      }
      if (taken.length > 0) {
        for (const listener of [...listeners]) {
          listener(taken);
        }
      }
    },
    spansOf,
    runningSpansOf: (traceId) => allOf(traceId).filter(isRunning),
    isRunning,
    *traces() {
      for (const { spans } of traces.values()) {
        yield spans;
      }
    },
    subscribe(listener) {
      if (listeners.size >= maxListeners) {
        throw createConnectError({
          code: Code.ResourceExhausted,
          message: `the collector is watched by ${maxListeners} already`,
        });
      }
      // One of its own, so that the same function may listen twice.
      const own = (spans: readonly SpanRecord[]) => listener(spans);
      listeners.add(own);
      return () => void listeners.delete(own);
    },
    listenerCount: () => listeners.size,
    traceIds: () => [...traces.keys()].reverse(),
    waitForTrace(traceId, enough, signal) {
      return new Promise((resolve, reject) => {
        if (signal.aborted) {
          return reject(signal.reason);
        }
        const checks = waiting.get(traceId) ?? new Set();
        const settle = () => {
          checks.delete(check);
          if (checks.size === 0) {
            waiting.delete(traceId);
          }
          signal.removeEventListener("abort", abort);
        };
        const abort = () => {
          settle();
          reject(signal.reason);
        };
        const check = () => {
          const spans = spansOf(traceId);
          if (!enough(spans)) {
            return;
          }
          settle();
          resolve(spans);
        };
        waiting.set(traceId, checks.add(check));
        signal.addEventListener("abort", abort);
        check();
      });
    },
  };
}

function hasEnded({ endUnixNano }: SpanRecord): boolean {
  return endUnixNano !== 0n;
}

interface StoredTrace {
  /** By span id. */
  readonly spans: Map<string, SpanRecord>;
  bytes: number;
}

/** Estimated bytes of an object or map without its content. */
const objectBytes = 100;

/**
 * An estimate of the memory that a span takes, in bytes: two for each character, and something for each object. It counts what spans may
 * share, their resource, for each.
 */
export function spanBytes(span: SpanRecord): number {
  const { name, service, traceState, status, attributes, resource, events, links } = span;
  const texts = [name, service, traceState, status.message];
  return (
    5 * objectBytes +
    sum(texts.map(textBytes)) +
    attributesBytes(attributes) +
    attributesBytes(resource) +
    sum(events.map((event) => objectBytes + textBytes(event.name) + attributesBytes(event.attributes))) +
    sum(links.map((link) => 2 * objectBytes + attributesBytes(link.attributes)))
  );
}

function attributesBytes(attributes: Attributes): number {
  return sum(Object.entries(attributes).map(([key, value]) => textBytes(key) + valueBytes(value)));
}

function valueBytes(value: AttributeValue | null | undefined): number {
  if (Array.isArray(value)) {
    return objectBytes + sum(value.map(valueBytes));
  }
  return typeof value === "string" ? textBytes(value) : 8;
}

function textBytes(text: string): number {
  return 16 + 2 * text.length;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
