import type { Logger } from "pino";
import type { App } from "../../app/create-app.js";
import { createGuard, type Protection } from "../../app/protection.js";
import { gateHandler } from "../../mesh/access/gate.js";
import { listen } from "../../mesh/port/listen.js";
import { type NodeHandler, respondPlain } from "../../mesh/port/node-handler.js";
import type { PrometheusMetrics } from "../../trace/telemetry/metrics.js";
import type { Telemetry } from "../../trace/telemetry/telemetry.js";
import type { RunningService } from "../process/run-service.js";
import type {
  ignoreUnknownFieldsSetting,
  protectionSettings,
  reflectionSetting,
} from "../settings/protection-settings.js";
import type { SettingsOf } from "../settings/setting.js";
import type { graceSetting, hostSetting } from "../settings/shared-settings.js";
import { protectionOf } from "./protection-of.js";

/** What settings say about how an app is served. */
type ServingSettings = { readonly port: number } & SettingsOf<
  typeof protectionSettings & {
    host: typeof hostSetting;
    reflection: typeof reflectionSetting;
    ignoreUnknownFields: typeof ignoreUnknownFieldsSetting;
    grace: typeof graceSetting;
  }
>;

/** Options of {@link serveApp}. */
export interface ServeAppOptions {
  readonly settings: ServingSettings;
  /** App id that callers must be allowed to use; absent where the app asks itself. */
  readonly appId?: string;
  readonly telemetry: Pick<Telemetry, "prometheus">;
  readonly logger: Logger;
}

/**
 * Serves an app as its settings say, with a port for Prometheus beside it where one is wanted: open before the app is ready, so that its start
 * can be watched, and until its last call has ended.
 *
 * @throws CommandError, or the system's error where a port cannot be opened; nothing is then left running.
 */
export async function serveApp(app: App, options: ServeAppOptions): Promise<RunningService> {
  const { settings, appId, telemetry, logger } = options;
  const { host, port, reflection, ignoreUnknownFields, grace } = settings;
  const protection = protectionOf(settings, logger);
  const metrics = telemetry.prometheus && (await openMetricsPort(telemetry.prometheus, { host, protection, logger }));
  try {
    const running = await app.serve({ host, port, appId, reflection, ignoreUnknownFields, ...protection });
    return {
      url: running.url,
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
  /** Where the app listens, and so this port where nothing else is said. */
  readonly host: string;
  /** The app's own. */
  readonly protection: Protection;
  readonly logger: Logger;
}

/** A port where Prometheus finds the metrics of a service. */
export interface MetricsPort {
  close(): Promise<void>;
}

/**
 * Opens the port for Prometheus. It is not the app's own, so that a firewall can keep the app's callers from it, and it is protected as the
 * app is: TLS, callers with keys or certificates, and none beyond loopback without one of them. Any caller whom the app knows may read it.
 *
 * @throws OpenServerError; the system's error where the port cannot be opened.
 */
export async function openMetricsPort(metrics: PrometheusMetrics, options: MetricsPortOptions): Promise<MetricsPort> {
  const { protection, logger } = options;
  const { address, gate } = await createGuard({ ...protection, host: metrics.host ?? options.host, logger });
  const listening = await listen({
    host: address,
    port: metrics.port,
    ...(protection.tls && { tls: protection.tls }),
    handler: gateHandler(gate, answerWith(metrics)),
  });
  logger.info({ url: `${listening.url}${path}` }, "metrics can be scraped");
  return { close: () => listening.stop({ graceMs: 0, cancelMs: 0 }) };
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
      () => respondPlain(response, 503, "there are no metrics any more: the service ends"),
    );
  };
}
