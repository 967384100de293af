import { type Context, ROOT_CONTEXT, type TextMapGetter, type TextMapPropagator } from "@opentelemetry/api";

/** A trace context as plain pairs, fit for a `map<string, string>` field: `traceparent`, `tracestate`, `baggage`. */
export type Carrier = Readonly<Record<string, string>>;

/** Writes a context into a new carrier. Empty when there is no trace, as with tracing switched off. */
export function injectCarrier(propagator: TextMapPropagator, scope: Context): Record<string, string> {
  const carrier: Record<string, string> = {};
  propagator.inject(scope, carrier, { set: (pairs, key, value) => Object.assign(pairs, { [key]: value }) });
  return carrier;
}

/**
 * Reads a carrier on top of `base`. Keys match case-insensitively; where several spell the same key, the one in lower case is
 * taken, else the first. Never throws, whatever the carrier says: what cannot be read leaves `base` as it was.
 */
export function extractCarrier(propagator: TextMapPropagator, carrier: Carrier, base: Context = ROOT_CONTEXT): Context {
  const pairs = new Map<string, string>();
  for (const [key, value] of Object.entries(carrier)) {
    const name = key.toLowerCase();
    if (name === key || !pairs.has(name)) {
      pairs.set(name, value);
    }
  }
  try {
    return propagator.extract(base, pairs, mapGetter);
  } catch {
    // The API does not promise what the SDK's propagators do, which is to skip what they cannot read.
    return base;
  }
}

const mapGetter: TextMapGetter<ReadonlyMap<string, string>> = {
  keys: (pairs) => [...pairs.keys()],
  get: (pairs, key) => pairs.get(key),
};
