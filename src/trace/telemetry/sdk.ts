import { createRequire } from "node:module";
import { context, createContextKey, ROOT_CONTEXT } from "@opentelemetry/api";

export type * as core from "@opentelemetry/core";
export type * as resources from "@opentelemetry/resources";
export type * as logs from "@opentelemetry/sdk-logs";
export type * as metrics from "@opentelemetry/sdk-metrics";
export type * as tracing from "@opentelemetry/sdk-trace-base";

/*
 * The one file that loads OpenTelemetry's SDK and its exporters, when something is made with them for the first time: they are several
 * hundred modules, and a client, `--help` or a service with telemetry switched off needs none. `require`, because the caller cannot wait.
 */
const require = createRequire(import.meta.url);

/** A package, named in a call of `require`, where a bundler finds the name. */
const lazy = <Module>(load: () => Module): (() => Module) => load;

const loadCore = lazy<typeof import("@opentelemetry/core")>(() => require("@opentelemetry/core"));
const loadResources = lazy<typeof import("@opentelemetry/resources")>(() => require("@opentelemetry/resources"));
const loadLogs = lazy<typeof import("@opentelemetry/sdk-logs")>(() => require("@opentelemetry/sdk-logs"));
const loadMetrics = lazy<typeof import("@opentelemetry/sdk-metrics")>(() => require("@opentelemetry/sdk-metrics"));
const loadTracing = lazy<typeof import("@opentelemetry/sdk-trace-base")>(() =>
  require("@opentelemetry/sdk-trace-base"),
);

/** OpenTelemetry's SDK, in the parts that are used. `@opentelemetry/sdk-node`, which has them all, loads every exporter besides. */
export const loadSdk = () => ({
  get core() {
    return loadCore();
  },
  get resources() {
    return loadResources();
  },
  get logs() {
    return loadLogs();
  },
  get metrics() {
    return loadMetrics();
  },
  get tracing() {
    return loadTracing();
  },
});

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
