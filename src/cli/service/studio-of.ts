import type { Logger } from "pino";
import { StudioService } from "../../gen/throughline/studio/v1/studio_pb.js";
import {
  createHostInterceptor,
  foreignHostMessage,
  type HostCheck,
  hasAllowedHost,
} from "../../mesh/access/host-check.js";
import type { AppDirectory } from "../../mesh/directory/app-directory.js";
import { respondPlain } from "../../mesh/port/node-handler.js";
import type { PipelineExtension } from "../../pipeline/pipeline-app.js";
import { createPageRoute } from "../../studio/page-route.js";
import { createRequestReporter, createRunningRequests } from "../../studio/running-requests.js";
import { createCollectorClient, studioRelayRoutes } from "../../studio/studio-relay.js";
import { usageError } from "../command-error.js";
import { studioPageFolder } from "../package-root.js";
import type { SettingsOf } from "../settings/setting.js";
import type { studioSettings } from "../settings/studio-settings.js";

/** What of a pipeline its studio shows. */
export interface StudioOptions {
  readonly directory: AppDirectory;
  /** By which names the studio may be asked for. */
  readonly hosts: HostCheck;
  readonly logger: Pick<Logger, "warn">;
}

/**
 * The studio that a pipeline's settings ask for; undefined where they ask for none.
 *
 * @throws CommandError (bad usage) where settings do not go together.
 */
export async function studioOf(
  settings: SettingsOf<typeof studioSettings>,
  { directory, hosts, logger }: StudioOptions,
): Promise<PipelineExtension | undefined> {
  const { studio, studioCollector, traceUrl, traceBackend } = settings;
  if (!studio) {
    if (studioCollector !== undefined || traceUrl !== undefined) {
      throw usageError("--studio-collector and --trace-url need --studio");
    }
    return undefined;
  }
  if (traceBackend !== undefined && traceUrl === undefined) {
    throw usageError("--trace-backend names the backend of --trace-url, which is missing");
  }
  const pageRoute = await createPageRoute(studioPageFolder);
  const ending = new AbortController();
  const requests = createRunningRequests();
  const collector = studioCollector === undefined ? undefined : createCollectorClient(studioCollector);
  return {
    services: [StudioService],
    interceptors: [createHostInterceptor([StudioService], hosts), createRequestReporter(requests)],
    routes: studioRelayRoutes({
      collector: collector?.studio,
      directory,
      watchRequests: requests.watch,
      traceUrlTemplate: traceUrl,
      traceBackend: traceBackend ?? (traceUrl && new URL(traceUrl).host),
      ending: ending.signal,
      onCollectorAway: (error) => logger.warn({ reason: error.rawMessage }, "the studio's collector does not answer"),
    }),
    httpRoute(request, response) {
      if (hasAllowedHost(request, hosts)) {
        return pageRoute(request, response);
      }
      request.resume();
      respondPlain(response, 403, foreignHostMessage);
      return true;
    },
    end() {
      ending.abort();
      collector?.close();
    },
  };
}
