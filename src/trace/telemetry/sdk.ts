import { createRequire } from "node:module";
import { context, createContextKey, ROOT_CONTEXT } from "@opentelemetry/api";

export type { core, logs, metrics, resources, tracing } from "@opentelemetry/sdk-node";

/*
 * The one file that loads OpenTelemetry's SDK and its exporters, when something is made with them for the first time: they are several
 * hundred modules, and a client, `--help` or a service with telemetry switched off needs none. `require`, because the caller cannot wait.
 */
const require = createRequire(import.meta.url);

/** A package, named in a call of `require`, where a bundler finds the name. */
const lazy = <Module>(load: () => Module): (() => Module) => load;

/** OpenTelemetry's SDK for Node.js. */
export const loadSdk = lazy<typeof import("@opentelemetry/sdk-node")>(() => require("@opentelemetry/sdk-node"));

/** The exporter that Prometheus reads. */
export const loadPrometheus = lazy<typeof import("@opentelemetry/exporter-prometheus")>(() =>
  require("@opentelemetry/exporter-prometheus"),
);

/** The serializers of OTLP. */
export const loadSerializers = lazy<typeof import("@opentelemetry/otlp-transformer")>(() =>
  require("@opentelemetry/otlp-transformer"),
);

/** What OTLP's exporters share: names of compression algorithms. */
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
 * Makes contexts follow the code across `await`. It is the one global that tracing sets: an application has one, however many
 * tracer providers live in it. Does nothing where one is at work, ours or an application's own.
 */
export function installContextManager(): void {
  const key = createContextKey("context manager probe");
  const works = context.with(ROOT_CONTEXT.setValue(key, true), () => context.active().getValue(key) === true);
  if (!works) {
    const { AsyncLocalStorageContextManager } = loadContexts();
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  }
}
