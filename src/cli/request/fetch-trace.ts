import { z } from "zod";
import type { SpanJson } from "../../studio/trace-json.js";
import { CommandError } from "../command-error.js";

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

/** A trace, for programs and for a terminal. */
export interface FetchedTrace {
  readonly spans: readonly SpanJson[];
  readonly tree: string;
}

const attribute = z.union([
  z.string(),
  z.number(),
  z.boolean(),
  z.array(z.string()),
  z.array(z.number()),
  z.array(z.boolean()),
]);

const traceJson: z.ZodType<Pick<FetchedTrace, "spans">> = z.object({
  spans: z.array(
    z.object({
      name: z.string(),
      service: z.string(),
      kind: z.string(),
      spanId: z.string(),
      parentSpanId: z.string(),
      durationMs: z.number(),
      attributes: z.record(z.string(), attribute),
    }),
  ),
});

/**
 * Asks the local collector for a trace.
 *
 * @throws CommandError when the collector does not answer.
 */
export async function fetchTrace(query: TraceQuery): Promise<FetchedTrace> {
  const { collector, traceId, spans, waitMs, interrupt } = query;
  const get = async (parameters: string): Promise<string> => {
    const response = await fetch(`${collector}/traces/${traceId}?${parameters}`, { signal: interrupt });
    const text = await response.text();
    if (!response.ok) {
      throw new Error(`${response.status} ${text}`);
    }
    return text;
  };
  try {
    const json = traceJson.parse(JSON.parse(await get(`spans=${spans}&wait=${waitMs}`)));
    return { ...json, tree: await get("format=text") };
  } catch (cause) {
    interrupt.throwIfAborted();
    throw new CommandError("the collector did not give the trace", { cause });
  }
}
