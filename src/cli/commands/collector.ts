import { createCallLog } from "../../app/call-log.js";
import { createLogger } from "../../app/observe.js";
import { createGuard } from "../../app/protection.js";
import { StudioService } from "../../gen/throughline/studio/v1/studio_pb.js";
import { reportForeignHost, withAccessControl } from "../../mesh/access/access-control.js";
import { createHostInterceptor, foreignHostMessage, hasAllowedHost } from "../../mesh/access/host-check.js";
import { listen } from "../../mesh/port/listen.js";
import { respondPlain } from "../../mesh/port/node-handler.js";
import { createConnectHandler } from "../../mesh/serve/connect-handler.js";
import { createCollector } from "../../studio/collector.js";
import { createTraceRoute } from "../../studio/trace-route.js";
import type { CommandContext } from "../command.js";
import type { collectorOptions } from "../options/command-options.js";
import type { OptionValues } from "../options/option.js";
import { runService } from "../services/run-service.js";
import { hostCheckOf, protectionOf } from "../services/security.js";
import { createLogFormat } from "../terminal/log-format.js";

/** Name of the collector in logs. */
const collectorName = "collector";

/** Exports hold whole batches of spans, so they may be larger than a request for an image. */
export const maxExportBytes = 16 * 1024 * 1024;

/** Exports are short, and no client waits for a trace when the collector ends. */
const stopGraceMs = 500;

/** Runs the local OTLP collector until a signal ends it. */
export function runCollector(
  settings: OptionValues<typeof collectorOptions>,
  context: CommandContext,
): Promise<number> {
  const { host, port, logLevel, logFormat } = settings;
  const format = createLogFormat(logFormat, context);
  const logger = createLogger({
    service: collectorName,
    level: logLevel,
    write: (line) => void context.stderr.write(format(line)),
  });
  const { routes, interceptors, httpHandler, store } = createCollector({ maxBodyBytes: maxExportBytes });
  const traceRoute = createTraceRoute(store, {
    onInternalError: (error) => logger.error({ err: error }, "a trace could not be written"),
  });
  const hosts = hostCheckOf(settings);
  return runService(
    {
      name: collectorName,
      portSetting: "--collector-port",
      async start() {
        const protection = protectionOf(settings, logger);
        const guard = await createGuard({ host, logger, ...protection });
        const { accessControl } = guard;
        const listening = await listen({
          host: guard.address,
          onTlsRejected: guard.onTlsRejected,
          tls: protection.tls,
          port,
          handler: createConnectHandler({
            routes,
            accessControl,
            readMaxBytes: maxExportBytes,
            // Exports are frequent: successful ones are logged at `debug`.
            interceptors: [
              createCallLog({ logger, services: [] }),
              createHostInterceptor([StudioService], hosts),
              ...interceptors,
            ],
            onInternalError: (error, path) => logger.error({ err: error, path }, "an answer could not be made"),
            fallback: withAccessControl(accessControl, "http", (request, response) => {
              if (request.method === "GET" && !hasAllowedHost(request, hosts)) {
                reportForeignHost(accessControl, request, { route: "http" });
                respondPlain(response, 403, foreignHostMessage);
              } else if (!traceRoute(request, response)) {
                httpHandler(request, response);
              }
            }),
          }),
        });
        logger.info({ url: listening.url }, "the collector is ready");
        return { url: listening.url, stop: () => listening.stop({ graceMs: stopGraceMs }).finally(guard.close) };
      },
    },
    context,
  );
}
