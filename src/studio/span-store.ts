import type { SpanRecord } from "../trace/span-record.js";

export interface SpanStoreOptions {
  /** Most spans that are kept. Beyond it the traces that were longest without a new span are forgotten. Default 20,000. */
  readonly maxSpans?: number;
  /** Most spans of one trace; more are dropped. Default 2,000. */
  readonly maxSpansPerTrace?: number;
}

/** Spans in memory, by trace. Bounded: a collector that runs for days must not grow. */
export interface SpanStore {
  /** Adds spans. One that is there already is replaced: an exporter that got no answer sends it again. */
  add(spans: readonly SpanRecord[]): void;
  /** Spans of a trace in the order in which they came; none for a trace that is not known. */
  spansOf(traceId: string): SpanRecord[];
  /** Traces from the one with the newest span to the one without for the longest time. */
  traceIds(): string[];
  /**
   * Settles with the spans of a trace once `enough` says yes about them. It is asked at once and after each export.
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
  /** Spans by span id by trace id; the traces stand in the order of their newest spans. */
  const traces = new Map<string, Map<string, SpanRecord>>();
  const waiting = new Map<string, Set<() => void>>();
  let size = 0;

  const addOne = (span: SpanRecord) => {
    const trace = traces.get(span.traceId) ?? new Map<string, SpanRecord>();
    traces.delete(span.traceId);
    traces.set(span.traceId, trace);
    size -= trace.size;
    if (trace.has(span.spanId) || trace.size < maxSpansPerTrace) {
      trace.set(span.spanId, span);
    }
    size += trace.size;
    for (const [traceId, oldest] of traces) {
      if (size <= maxSpans || traceId === span.traceId) {
        break;
      }
      traces.delete(traceId);
      size -= oldest.size;
    }
  };
  const spansOf = (traceId: string) => [...(traces.get(traceId)?.values() ?? [])];

  return {
    add(spans) {
      for (const span of spans) {
        addOne(span);
      }
      for (const traceId of new Set(spans.map((span) => span.traceId))) {
        for (const check of [...(waiting.get(traceId) ?? [])]) {
          check();
        }
      }
    },
    spansOf,
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
