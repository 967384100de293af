import type { SpanRecord } from "../trace/span-record.js";
import { spanBytes } from "./span-bytes.js";

export interface SpanStoreOptions {
  /** Most spans that are kept. Beyond it the traces that were longest without a new span are forgotten. Default 20,000. */
  readonly maxSpans?: number;
  /** Most spans of one trace; more are dropped. Default 2,000. */
  readonly maxSpansPerTrace?: number;
  /** Most bytes that the spans take, as {@link spanBytes} estimates; beyond it traces are forgotten likewise. Default 64 MiB. */
  readonly maxBytes?: number;
  /** Most bytes of one trace; spans beyond it are dropped. Default 16 MiB. */
  readonly maxBytesPerTrace?: number;
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
  const maxBytes = options.maxBytes ?? 64 * 1024 * 1024;
  const maxBytesPerTrace = options.maxBytesPerTrace ?? 16 * 1024 * 1024;
  /** By trace id; the traces stand in the order of their newest spans. */
  const traces = new Map<string, StoredTrace>();
  const waiting = new Map<string, Set<() => void>>();
  let size = 0;
  let bytes = 0;

  const addOne = (span: SpanRecord) => {
    const trace = traces.get(span.traceId) ?? { spans: new Map<string, SpanRecord>(), bytes: 0 };
    traces.delete(span.traceId);
    const older = trace.spans.get(span.spanId);
    const more = spanBytes(span) - (older === undefined ? 0 : spanBytes(older));
    const fits = older !== undefined || trace.spans.size < maxSpansPerTrace;
    if (fits && trace.bytes + more <= Math.min(maxBytesPerTrace, maxBytes)) {
      trace.spans.set(span.spanId, span);
      trace.bytes += more;
      bytes += more;
      size += older === undefined ? 1 : 0;
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
  };
  const spansOf = (traceId: string) => [...(traces.get(traceId)?.spans.values() ?? [])];

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

interface StoredTrace {
  /** By span id. */
  readonly spans: Map<string, SpanRecord>;
  bytes: number;
}
