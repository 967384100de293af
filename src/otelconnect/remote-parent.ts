import {
  type Context,
  isSpanContextValid,
  type Link,
  ROOT_CONTEXT,
  type TextMapGetter,
  type TextMapPropagator,
  trace,
} from "@opentelemetry/api";

/**
 * What the headers of a caller (`traceparent`, `tracestate`, `baggage`) mean for the server's span:
 * - `link`: the span begins a trace of its own and links to the caller's. For servers that strangers reach: whoever could choose
 *   the parent could also choose the sampling, and join traces that are not theirs. Tracestate and baggage end here;
 * - `trust`: the caller's span is the parent, and tracestate and baggage travel on;
 * - `ignore`: the headers are not read.
 */
export type RemoteParent = "link" | "trust" | "ignore";

/** Where a server's span begins. */
export interface SpanOrigin {
  /** Context with the parent span, or without one, which makes a root. */
  readonly parent: Context;
  readonly links: readonly Link[];
}

/**
 * Reads what the headers say, on top of `base`. Never throws, whatever they hold: what cannot be read counts as absent.
 *
 * @param base what is known of the call's context besides. @default the root context, and not the active one
 */
export function readRemoteParent(
  propagator: TextMapPropagator,
  header: Headers,
  policy: RemoteParent,
  base: Context = ROOT_CONTEXT,
): SpanOrigin {
  const nowhere = { parent: base, links: [] };
  if (policy === "ignore") {
    return nowhere;
  }
  const extracted = extract(propagator, header, base);
  if (policy === "trust") {
    return { parent: extracted, links: [] };
  }
  const caller = trace.getSpanContext(extracted);
  if (caller === undefined || !isSpanContextValid(caller)) {
    return nowhere;
  }
  const { traceId, spanId, traceFlags } = caller;
  return { parent: base, links: [{ context: { traceId, spanId, traceFlags, isRemote: true } }] };
}

function extract(propagator: TextMapPropagator, header: Headers, base: Context): Context {
  try {
    return propagator.extract(base, header, headersGetter);
  } catch {
    // The API does not promise what the SDK's propagators do, which is to skip what they cannot read.
    return base;
  }
}

const headersGetter: TextMapGetter<Headers> = {
  keys: (header) => [...header.keys()],
  get: (header, key) => header.get(key) ?? undefined,
};
