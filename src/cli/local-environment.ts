import type { Environment } from "./environment.js";

/** What of the user's environment would lead a local system's spans elsewhere, or switch them off. */
const replaced = /^(?:THROUGHLINE_|OTEL_EXPORTER_|OTEL_TRACES_|OTEL_BSP_|OTEL_SDK_DISABLED$|ENABLE_TRACING$)/;

/**
 * Environment for the services of a local system: the user's own, but every span goes to the system's own collector, whatever the
 * shell says about tracing elsewhere. The services are configured by flags alone.
 */
export function localEnvironment(environment: Environment, collectorUrl: string): Environment {
  const delay = environment["OTEL_BSP_SCHEDULE_DELAY"];
  return {
    ...Object.fromEntries(Object.entries(environment).filter(([name]) => !replaced.test(name))),
    ENABLE_TRACING: "true",
    OTEL_EXPORTER_OTLP_ENDPOINT: collectorUrl,
    OTEL_EXPORTER_OTLP_PROTOCOL: "grpc",
    // A person waits for the trace: the 5 s of the specification are too long.
    OTEL_BSP_SCHEDULE_DELAY: delay === undefined || delay === "" ? "200" : delay,
  };
}
