import type { PipelineCalls } from "../../calls/pipeline-calls.js";
import { createFalFront } from "../../fronts/fal/front.js";
import { createOpenAiFront } from "../../fronts/openai/front.js";
import type { HttpFront } from "../../mesh/serve/http-front.js";
import { createPipelineApp, pipelineName } from "../../pipeline/pipeline-app.js";
import type { CommandContext } from "../command.js";
import { usageError } from "../errors.js";
import type { pipelineOptions } from "../options/command-options.js";
import type { OptionValues } from "../options/option.js";
import { directoryOf } from "../services/directory.js";
import { bucketOf, imageStoreOf } from "../services/image-stores.js";
import { isDatabaseUrl, jobsOf, type PipelineJobs } from "../services/jobs.js";
import { registryOf } from "../services/registry.js";
import { runService } from "../services/run-service.js";
import { scalerOf } from "../services/scaler.js";
import { hostCheckOf, workerSecurityOf } from "../services/security.js";
import { observeService, serveApp } from "../services/serve-app.js";
import { studioOf } from "../services/studio.js";

type PipelineSettings = OptionValues<typeof pipelineOptions>;

/** Runs ImagePipeline until a signal ends it. */
export async function runPipeline(settings: PipelineSettings, context: CommandContext): Promise<number> {
  const { publicUrl, trustTraceparent, showApps, corsOrigins } = settings;
  const fronts = frontsOf(settings);
  const { logger, telemetry } = observeService(pipelineName, settings, context);
  const { directory, extension: registry } = registryOf(settings, directoryOf(settings, logger), logger);
  return runService(
    {
      name: pipelineName,
      portSetting: "--pipeline-port",
      async start() {
        const bucket = await bucketOf(settings, context.environment);
        const scaler = scalerOf(settings, { directory, logger });
        const extendByJobs = await jobsOf(settings, { ...settings, bucket, telemetry, logger });
        let jobs: PipelineJobs | undefined;
        const app = createPipelineApp({
          directory,
          workerSecurity: workerSecurityOf(settings, logger),
          store: await imageStoreOf(settings, bucket, logger),
          publicUrl,
          corsOrigins,
          trustTraceparent,
          showApps,
          fronts,
          extensions: [
            extendByJobs &&
              ((calls: PipelineCalls) => {
                jobs = extendByJobs(calls);
                return jobs;
              }),
            // After the jobs, which it counts.
            scaler && (() => scaler.extend(jobs, isDatabaseUrl(settings.jobs ?? ""))),
            await studioOf(settings, {
              directory,
              imageOrigin: await bucket?.originOfUrls(),
              hasJobs: settings.jobs !== undefined,
              hosts: hostCheckOf(settings),
              logger,
            }),
            registry,
          ].filter((extension) => extension !== undefined),
          demand: scaler?.demand,
          telemetry,
          logger,
        });
        return serveApp(app, { settings, telemetry, logger });
      },
      finish: () => telemetry.shutdown(),
    },
    context,
  );
}

/** @throws CliError (bad usage) when an option lacks another one that it needs. */
function frontsOf({ openai, fal, falRunHost, jobs, publicUrl }: PipelineSettings): HttpFront[] {
  if (fal && jobs === undefined) {
    throw usageError("--fal needs --jobs: its queue rests on durable jobs; name a folder, or postgres://…");
  }
  if (falRunHost !== undefined && !fal) {
    throw usageError("--fal-run-host needs --fal");
  }
  return [
    ...(openai ? [createOpenAiFront()] : []),
    ...(fal ? [createFalFront({ runHost: falRunHost, publicUrl })] : []),
  ];
}
