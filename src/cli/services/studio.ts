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
import type { OptionValues } from "../options/option.js";
import type { studioOptions } from "../options/server-options.js";
import { problemsOf, rejectProblems, type SettingProblem } from "../options/setting-problem.js";
import { studioPageFolder } from "../package-root.js";

/** What is wrong with the options of a studio together. */
export function studioProblems(settings: OptionValues<typeof studioOptions>): readonly SettingProblem[] {
  const { studio, studioCollector, traceUrl, traceBackend } = settings;
  return problemsOf([
    [
      !studio && (studioCollector !== undefined || traceUrl !== undefined),
      "--studio-collector and --trace-url",
      "need --studio",
      "add --studio, or leave them out",
    ],
    [
      studio && traceBackend !== undefined && traceUrl === undefined,
      "--trace-backend",
      "needs --trace-url",
      "name the URL of a trace too",
    ],
  ]);
}

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
  rejectProblems(studioProblems(settings));
  if (!studio) {
    return undefined;
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
