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
import { usageError } from "../errors.js";
import type { OptionValues } from "../options/option.js";
import type { studioOptions } from "../options/server-options.js";
import { studioPageFolder } from "../package-root.js";

/** Parts of the pipeline that its studio needs. */
export interface StudioOptions {
  readonly directory: AppDirectory;
  /** Origin of the images' URLs if the pipeline does not serve them itself. */
  readonly imageOrigin?: string | undefined;
  /** Whether the pipeline has jobs. */
  readonly hasJobs: boolean;
  /** Host names under which the studio answers browsers. */
  readonly hosts: HostCheck;
  readonly logger: Pick<Logger, "warn">;
}

/**
 * Creates the studio of a pipeline; undefined without `--studio`.
 *
 * @throws CliError (bad usage) when an option lacks another one that it needs.
 */
export async function studioOf(
  settings: OptionValues<typeof studioOptions>,
  { directory, imageOrigin, hasJobs, hosts, logger }: StudioOptions,
): Promise<(() => PipelineExtension) | undefined> {
  const { studio, studioCollector, traceUrl, traceBackend } = settings;
  if (!studio) {
    if (studioCollector !== undefined || traceUrl !== undefined) {
      throw usageError("--studio-collector and --trace-url need --studio");
    }
    return undefined;
  }
  if (traceBackend !== undefined && traceUrl === undefined) {
    throw usageError("--trace-backend needs --trace-url");
  }
  const pageRoute = await createPageRoute(studioPageFolder, imageOrigin);
  const ending = new AbortController();
  const requests = createRunningRequests();
  const collector = studioCollector === undefined ? undefined : createCollectorClient(studioCollector);
  return () => ({
    services: [StudioService],
    interceptors: [createHostInterceptor([StudioService], hosts), createRequestReporter(requests)],
    routes: studioRelayRoutes({
      collector: collector?.studio,
      directory,
      watchRequests: requests.watch,
      traceUrlTemplate: traceUrl,
      hasJobs,
      traceBackend: traceBackend ?? (traceUrl && new URL(traceUrl).host),
      ending: ending.signal,
      onCollectorAway: (error) => logger.warn({ reason: error.rawMessage }, "the studio's collector does not answer"),
    }),
    httpRoute(request, response, log) {
      if (hasAllowedHost(request, hosts)) {
        return pageRoute(request, response);
      }
      log.reportForeignHost("/");
      request.resume();
      respondPlain(response, 403, foreignHostMessage);
      return true;
    },
    end() {
      ending.abort();
      collector?.close();
    },
  });
}
