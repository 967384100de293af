import { createStreamBell } from "../mesh/serve/stream-bell.js";
import type { SpanRecord } from "../trace/span-record.js";
import type { SpanStore } from "./span-store.js";

/** Which trace to watch. */
export interface TraceWatch {
  readonly traceId: string;
  /** Milliseconds that the trace may be still before the watching ends; 0 for what is there now. */
  readonly idleMs: number;
  /** Ends the watching. */
  readonly signal: AbortSignal;
}

/** Most spans that are told at once: a message with all spans of a trace could be larger than clients take. */
const maxAtOnce = 100;

/** Most spans that wait for a reader: a store keeps no more of a trace, but one that it forgot may come again with other spans. */
const maxWaiting = 2000;

/**
 * The spans of a trace: those that are there at once, then each as it is heard of, running or ended. It ends when no span of the trace has been
 * running, and none has come, for `idleMs`. A reader that is slow gets the latest state of each span and not the ones between.
 *
 * @throws ConnectError RESOURCE_EXHAUSTED when the store is watched by too many.
 */
export async function* watchTrace(store: SpanStore, watch: TraceWatch): AsyncGenerator<SpanRecord[]> {
  const { traceId, idleMs, signal } = watch;
  const bell = createStreamBell();
  /** Not told yet, by span id. */
  const news = new Map<string, SpanRecord>();
  const note = (spans: readonly SpanRecord[]) => {
    for (const span of spans.filter((each) => each.traceId === traceId)) {
      const [oldest] = news.size >= maxWaiting && !news.has(span.spanId) ? news.keys() : [];
      if (oldest !== undefined) {
        news.delete(oldest);
      }
      news.set(span.spanId, span);
      bell.ring();
    }
  };
  const leave = store.subscribe(note);
  try {
    note([...store.spansOf(traceId), ...store.runningSpansOf(traceId)]);
    for (;;) {
      while (news.size > 0) {
        const told = [...news.values()].slice(0, maxAtOnce);
        for (const { spanId } of told) {
          news.delete(spanId);
        }
        yield told;
      }
      if (idleMs === 0) {
        return;
      }
      const heard = await bell.wait(signal, idleMs);
      if (heard === "left" || (heard === "quiet" && store.runningSpansOf(traceId).length === 0)) {
        return;
      }
    }
  } finally {
    leave();
  }
}
