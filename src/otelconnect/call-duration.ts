import { type Attributes, type Context, createNoopMeter, type Histogram, metrics } from "@opentelemetry/api";
import type { OtelConnectOptions } from "./options.js";
import type { RpcSide } from "./status-codes.js";

/** Records how long calls take: `rpc.server.call.duration` or `rpc.client.call.duration`, in seconds. */
export interface CallDuration {
  /** Whether anybody wants to know. */
  enabled(): boolean;
  record(seconds: number, attributes: Attributes, scope: Context): void;
}

/** What the conventions advise, in seconds. */
const bucketBoundaries = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];

const descriptions = {
  server: "Measures the duration of an incoming Remote Procedure Call (RPC).",
  client: "Measures the duration of an outgoing Remote Procedure Call (RPC).",
} as const satisfies Record<RpcSide, string>;

/** The API has one of it. */
const noop = createNoopMeter().createHistogram("noop");

/**
 * Makes the one metric that the conventions have left; sizes and counts of messages are deprecated. The global provider is asked
 * again until there is one, because the metrics API, unlike the one for traces, has no stand-in for a provider that comes later.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/rpc/rpc-metrics/
 */
export function createCallDuration(side: RpcSide, scopeName: string, options: OtelConnectOptions): CallDuration {
  let histogram: Histogram = noop;
  const current = () => {
    if (histogram === noop) {
      const meter = options.meter ?? (options.meterProvider ?? metrics).getMeter(scopeName);
      histogram = meter.createHistogram(`rpc.${side}.call.duration`, {
        description: descriptions[side],
        unit: "s",
        advice: { explicitBucketBoundaries: bucketBoundaries },
      });
    }
    return histogram;
  };
  return {
    enabled: () => current() !== noop,
    record: (seconds, attributes, scope) => current().record(seconds, attributes, scope),
  };
}
