import { createRequire } from "node:module";
import { context, createContextKey, ROOT_CONTEXT } from "@opentelemetry/api";

export type { core, logs, metrics, resources, tracing } from "@opentelemetry/sdk-node";

/*
 * Loads OpenTelemetry's SDK and exporters on first use. They are several hundred modules, and a client, `--help` or a service with
 * telemetry off needs none of them. Uses `require`, because the callers are synchronous.
 */
const require = createRequire(import.meta.url);

/** Marks a lazy load. Each `require` has a literal name, so that bundlers find it. */
const lazy = <Module>(load: () => Module): (() => Module) => load;

/** OpenTelemetry's SDK for Node.js. */
export const loadSdk = lazy<typeof import("@opentelemetry/sdk-node")>(() => require("@opentelemetry/sdk-node"));

/** Exporter for Prometheus. */
export const loadPrometheus = lazy<typeof import("@opentelemetry/exporter-prometheus")>(() =>
  require("@opentelemetry/exporter-prometheus"),
);

/** Serializers of OTLP. */
export const loadSerializers = lazy<typeof import("@opentelemetry/otlp-transformer")>(() =>
  require("@opentelemetry/otlp-transformer"),
);

/** Common code of the OTLP exporters: names of compression algorithms. */
export const loadExporterBase = lazy<typeof import("@opentelemetry/otlp-exporter-base")>(() =>
  require("@opentelemetry/otlp-exporter-base"),
);

/** Selectors of the temporality of metrics. */
export const loadTemporalities = lazy<typeof import("@opentelemetry/exporter-metrics-otlp-http")>(() =>
  require("@opentelemetry/exporter-metrics-otlp-http"),
);

/** The official exporters over gRPC, by signal. */
export const grpcExporters = {
  traces: lazy<typeof import("@opentelemetry/exporter-trace-otlp-grpc")>(() =>
    require("@opentelemetry/exporter-trace-otlp-grpc"),
  ),
  metrics: lazy<typeof import("@opentelemetry/exporter-metrics-otlp-grpc")>(() =>
    require("@opentelemetry/exporter-metrics-otlp-grpc"),
  ),
  logs: lazy<typeof import("@opentelemetry/exporter-logs-otlp-grpc")>(() =>
    require("@opentelemetry/exporter-logs-otlp-grpc"),
  ),
};

/** The official exporters over HTTP with Protobuf, by signal. */
export const httpExporters = {
  traces: lazy<typeof import("@opentelemetry/exporter-trace-otlp-proto")>(() =>
    require("@opentelemetry/exporter-trace-otlp-proto"),
  ),
  metrics: lazy<typeof import("@opentelemetry/exporter-metrics-otlp-proto")>(() =>
    require("@opentelemetry/exporter-metrics-otlp-proto"),
  ),
  logs: lazy<typeof import("@opentelemetry/exporter-logs-otlp-proto")>(() =>
    require("@opentelemetry/exporter-logs-otlp-proto"),
  ),
};

const loadContexts = lazy<typeof import("@opentelemetry/context-async-hooks")>(() =>
  require("@opentelemetry/context-async-hooks"),
);

/**
 * Installs the process-wide context manager, which propagates contexts across `await`.
 *
 * It is the only global of tracing. Does nothing if a context manager is already installed.
 */
export function installContextManager(): void {
  const key = createContextKey("context manager probe");
  const works = context.with(ROOT_CONTEXT.setValue(key, true), () => context.active().getValue(key) === true);
  if (!works) {
    const { AsyncLocalStorageContextManager } = loadContexts();
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  }
}
