import type { SpanRecord } from "../../trace/span-record.js";
import { missingSpans } from "./contract-spans.js";
import { spanRecordOf } from "./span-record-of.js";
import { collectorFailure, type StudioSource } from "./studio-client.js";

/** Which trace, and how long to wait for all of it. */
export interface TraceQuery extends StudioSource {
  readonly traceId: string;
  /** Milliseconds without news of a trace after which it counts as whole; 0 takes what is there now. */
  readonly idleMs: number;
  /** Milliseconds after which what is there is taken. */
  readonly waitMs: number;
  readonly interrupt: AbortSignal;
}

/**
 * Asks for the spans of a trace: at once those of a trace that is whole, else as long as it may take. None: the trace is not known.
 *
 * @throws CommandError when there is no answer, or the reason of `interrupt`.
 */
export async function fetchTrace(query: TraceQuery): Promise<SpanRecord[]> {
  const { server, studio, traceId, idleMs, waitMs, interrupt } = query;
  const spans = new Map<string, SpanRecord>();
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), waitMs);
  try {
    const signal = AbortSignal.any([interrupt, over.signal]);
    for await (const response of studio.watchTrace({ traceId, idleMs }, { signal })) {
      for (const span of response.spans) {
        spans.set(span.spanId, spanRecordOf(span));
      }
      if (idleMs > 0 && missingSpans([...spans.values()]).length === 0) {
        break;
      }
    }
  } catch (error) {
    interrupt.throwIfAborted();
    if (!over.signal.aborted) {
      throw collectorFailure(server, error);
    }
  } finally {
    clearTimeout(timer);
    // Ends the call where it was left.
    over.abort();
  }
  return [...spans.values()];
}
