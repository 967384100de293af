import { spansFromJson } from "../studio/span-json.js";
import type { SpanRecord } from "../trace/span-record.js";
import { CommandError } from "./command-error.js";

/** Which trace, and how long to wait for all of it. */
export interface TraceQuery {
  /** Base URL of the collector. */
  readonly collector: string;
  readonly traceId: string;
  /** Spans that make the trace complete. */
  readonly spans: number;
  /** Milliseconds to wait for them; then what is there is taken. */
  readonly waitMs: number;
  readonly interrupt: AbortSignal;
}

/**
 * Asks the local collector for a trace.
 *
 * @throws CommandError when the collector does not answer.
 */
export async function fetchTrace(query: TraceQuery): Promise<readonly SpanRecord[]> {
  const { collector, traceId, spans, waitMs, interrupt } = query;
  try {
    const response = await fetch(`${collector}/traces/${traceId}?spans=${spans}&wait=${waitMs}`, { signal: interrupt });
    if (!response.ok) {
      throw new Error(`status ${response.status}`);
    }
    return spansFromJson(await response.text());
  } catch (cause) {
    interrupt.throwIfAborted();
    throw new CommandError("the collector did not give the trace", { cause });
  }
}
