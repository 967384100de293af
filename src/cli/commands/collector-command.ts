import { createCallLog } from "../../app/call-log.js";
import { createLogger } from "../../app/create-logger.js";
import { createGuard } from "../../app/protection.js";
import { gateHandler } from "../../mesh/access/gate-handler.js";
import { listen } from "../../mesh/port/listen.js";
import { createConnectHandler } from "../../mesh/serve/connect-handler.js";
import { createCollector } from "../../studio/collector.js";
import { createTraceRoute } from "../../studio/trace-route.js";
import type { CommandContext } from "../command-context.js";
import { runService } from "../process/run-service.js";
import { protectionOf } from "../service/protection-of.js";
import type { collectorSettings } from "../settings/collector-settings.js";
import type { SettingsOf } from "../settings/setting.js";

/** Name of the collector in logs. */
const collectorName = "collector";

/** Exports hold whole batches of spans, so they may be larger than a request for a picture. */
export const maxExportBytes = 16 * 1024 * 1024;

/** An export is short, and nobody waits for a trace when the collector ends. */
const stopGraceMs = 500;

/** Runs the local OTLP collector until a signal ends it. */
export function runCollector(settings: SettingsOf<typeof collectorSettings>, context: CommandContext): Promise<number> {
  const { host, port, logLevel } = settings;
  const logger = createLogger({
    service: collectorName,
    level: logLevel,
    write: (line) => void context.stderr.write(line),
  });
  const { routes, interceptors, httpHandler, store } = createCollector({ maxBodyBytes: maxExportBytes });
  const traceRoute = createTraceRoute(store, {
    onInternalError: (error) => logger.error({ err: error }, "a trace could not be written"),
  });
  return runService(
    {
      name: collectorName,
      async start() {
        const protection = protectionOf(settings, logger);
        const { address, gate } = await createGuard({ host, logger, ...protection });
        const listening = await listen({
          host: address,
          ...(protection.tls && { tls: protection.tls }),
          port,
          handler: createConnectHandler({
            routes,
            gate,
            readMaxBytes: maxExportBytes,
            // Exports come all the time: those that went well are told of at `debug`.
            interceptors: [createCallLog({ logger, services: [] }), ...interceptors],
            onBroken: (error, path) => logger.error({ err: error, path }, "an answer could not be made"),
            fallback: gateHandler(gate, (request, response) => {
              if (!traceRoute(request, response)) {
                httpHandler(request, response);
              }
            }),
          }),
        });
        logger.info({ url: listening.url }, "the collector is ready");
        return { url: listening.url, stop: () => listening.stop({ graceMs: stopGraceMs }) };
      },
    },
    context,
  );
}
