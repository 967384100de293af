import type { Environment } from "../../trace/telemetry/environment.js";

/** What of the user's environment would lead a local system's spans elsewhere, or switch them off. */
const replaced =
  /^(?:THROUGHLINE_|OTEL_EXPORTER_|OTEL_TRACES_|OTEL_METRICS_|OTEL_BSP_|OTEL_SDK_DISABLED$|ENABLE_TRACING$)/;

/**
 * Environment for the services of a local system, which are configured by flags alone: the user's own, but tracing is on, whatever the
 * shell says about it.
 */
export function localEnvironment(environment: Environment): Environment {
  const delay = environment["OTEL_BSP_SCHEDULE_DELAY"];
  return {
    ...Object.fromEntries(Object.entries(environment).filter(([name]) => !replaced.test(name))),
    ENABLE_TRACING: "true",
    // The collector is this project's own, which knows what to make of them.
    THROUGHLINE_RUNNING_SPANS: "true",
    // Its collector keeps none, and a port for Prometheus would be asked for by more than one service.
    OTEL_METRICS_EXPORTER: "none",
    // A person waits for the trace: the 5 s of the specification are too long.
    OTEL_BSP_SCHEDULE_DELAY: delay === undefined || delay === "" ? "200" : delay,
  };
}

/** Variables that lead a service's spans to a local system's own collector. */
export function exportTo(collectorUrl: string): Environment {
  return { OTEL_EXPORTER_OTLP_ENDPOINT: collectorUrl, OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" };
}
