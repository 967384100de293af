import type { Level, Logger } from "pino";
import type { App } from "../../app/create-app.js";
import { type Observed, observe } from "../../app/observe.js";
import { createGuard, type Protection } from "../../app/protection.js";
import { withAccessControl } from "../../mesh/access/access-control.js";
import { writeGrpcLogTo } from "../../mesh/grpc/grpc-log.js";
import { listen } from "../../mesh/port/listen.js";
import { type NodeHandler, respondPlain } from "../../mesh/port/node-handler.js";
import { TelemetryConfigError } from "../../trace/telemetry/environment.js";
import type { PrometheusMetrics } from "../../trace/telemetry/metrics.js";
import type { Telemetry } from "../../trace/telemetry/telemetry.js";
import type { CommandContext } from "../command.js";
import { usageError } from "../errors.js";
import type { OptionValues } from "../options/option.js";
import type { appServerOptions } from "../options/server-options.js";
import { createLogFormat, type LogFormat } from "../terminal/log-format.js";
import { type RunningService, startFailure } from "./run-service.js";
import { hostCheckOf, protectionOf } from "./security.js";

type ServingOptions = { readonly port: number; readonly publicUrl?: string | undefined } & OptionValues<
  typeof appServerOptions
>;

/** Options of {@link serveApp}. */
export interface ServeAppOptions {
  readonly settings: Omit<ServingOptions, "logLevel" | "logFormat">;
  /** App id that callers must be allowed to use; absent if the app checks it itself. */
  readonly appId?: string;
  readonly telemetry: Pick<Telemetry, "prometheus">;
  readonly logger: Logger;
}

/** A served app. */
export interface ServedApp extends RunningService {
  /** TCP port, also if a free one was taken. */
  readonly port: number;
}

/**
 * Serves an app, and its metrics for Prometheus at a port of their own: open before the app is ready and until its last call has ended.
 *
 * @throws CliError, or the system's error when a port cannot be opened; nothing is then left running.
 */
export async function serveApp(app: App, options: ServeAppOptions): Promise<ServedApp> {
  const { settings, appId, telemetry, logger } = options;
  const { host, port, reflection, ignoreUnknownFields, grace, http1Keepalive } = settings;
  const limits = { keepAliveTimeoutMs: http1Keepalive * 1000 };
  const protection = protectionOf(settings, logger);
  const metrics =
    telemetry.prometheus &&
    (await openMetricsPort(telemetry.prometheus, { host, protection, logger }).catch((error: unknown) => {
      throw startFailure("the metrics endpoint", error, "--metrics-port");
    }));
  try {
    const pageHosts = hostCheckOf(settings);
    const serving = { host, port, appId, reflection, ignoreUnknownFields, pageHosts, limits, ...protection };
    const running = await app.serve(serving);
    return {
      url: running.url,
      port: running.port,
      async stop() {
        await running.stop({ graceMs: grace * 1000 });
        await metrics?.close();
      },
    };
  } catch (error) {
    await metrics?.close();
    throw error;
  }
}

/** Options of {@link openMetricsPort}. */
export interface MetricsPortOptions {
  /** Address of the app; the default for this port. */
  readonly host: string;
  readonly protection: Protection;
  readonly logger: Logger;
}

/** The metrics port of a service. */
export interface MetricsPort {
  close(): Promise<void>;
}

/**
 * Opens the port for Prometheus. It is not the app's own, so that a firewall can separate the two; TLS and authentication are the app's, and
 * every authenticated caller may read it.
 *
 * @throws OpenServerError; the system's error when the port cannot be opened.
 */
export async function openMetricsPort(metrics: PrometheusMetrics, options: MetricsPortOptions): Promise<MetricsPort> {
  const { protection, logger } = options;
  const guard = await createGuard({ ...protection, host: metrics.host ?? options.host, logger });
  const listening = await listen({
    host: guard.address,
    port: metrics.port,
    tls: protection.tls,
    onTlsRejected: guard.onTlsRejected,
    handler: withAccessControl(guard.accessControl, path, answerWith(metrics)),
  });
  logger.info({ url: `${listening.url}${path}` }, "metrics can be scraped");
  return { close: () => listening.stop({ graceMs: 0, cancelMs: 0 }).finally(guard.close) };
}

const path = "/metrics";

function answerWith({ scrape }: PrometheusMetrics): NodeHandler {
  return (request, response) => {
    request.resume();
    if (request.url?.split("?", 1)[0] !== path) {
      return respondPlain(response, 404, `the metrics are at ${path}`);
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      return respondPlain(response, 405, "metrics are read by GET", { allow: "GET, HEAD" });
    }
    scrape().then(
      (text) => respondPlain(response, 200, text, { "content-type": "text/plain; version=0.0.4; charset=utf-8" }),
      () => respondPlain(response, 503, "the service is shutting down: there are no metrics any more"),
    );
  };
}

/** Log and metrics settings of a service. */
export interface LogOptions {
  readonly logLevel: Level | "silent";
  readonly logFormat: LogFormat;
  readonly metricsPort: number | undefined;
}

/**
 * Creates the log of a service, on stderr, and its telemetry, configured by the environment.
 *
 * @param options `metricsPort` overrides the environment; undefined without --metrics-port.
 * @throws CliError (bad usage) that names the variable that is wrong.
 */
export function observeService(
  serviceName: string,
  options: LogOptions,
  context: Pick<CommandContext, "environment" | "stderr">,
): Observed {
  const { logLevel: level, logFormat, metricsPort: prometheusPort } = options;
  const { environment, stderr } = context;
  try {
    const format = createLogFormat(logFormat, context);
    const write = (line: string) => void stderr.write(format(line));
    const observed = observe({ serviceName, environment, prometheusPort, level, write });
    writeGrpcLogTo(observed.logger);
    if ((environment["OTEL_SERVICE_NAME"] ?? "") !== "") {
      const advice = "service.namespace in OTEL_RESOURCE_ATTRIBUTES distinguishes deployments";
      observed.logger.warn(`OTEL_SERVICE_NAME has no effect: the service name is always ${serviceName}; ${advice}`);
    }
    return observed;
  } catch (error) {
    throw error instanceof TelemetryConfigError ? usageError(error.message) : error;
  }
}
