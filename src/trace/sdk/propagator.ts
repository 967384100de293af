import type { TextMapPropagator } from "@opentelemetry/api";
import { core } from "@opentelemetry/sdk-node";

/** Propagator of W3C Trace Context (`traceparent`, `tracestate`) and W3C Baggage. It is handed on, never made the global one. */
export function createPropagator(): TextMapPropagator {
  return new core.CompositePropagator({
    propagators: [new core.W3CTraceContextPropagator(), new core.W3CBaggagePropagator()],
  });
}

/** Propagator for tracing that is switched off: reads nothing and writes nothing, so that no request has a trace id. */
export function createSilentPropagator(): TextMapPropagator {
  return { inject() {}, extract: (scope) => scope, fields: () => [] };
}
