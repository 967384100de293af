import type { Logger } from "pino";
import { createGuard, type Protection } from "../../app/protection.js";
import { gateHandler } from "../../mesh/access/gate-handler.js";
import { listen } from "../../mesh/port/listen.js";
import { type NodeHandler, respondPlain } from "../../mesh/port/node-handler.js";
import type { PrometheusMetrics } from "../../trace/telemetry/metrics.js";

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
