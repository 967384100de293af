import type { PipelineCalls } from "../../calls/pipeline-calls.js";
import { createFalFront } from "../../fronts/fal/front.js";
import { createOpenAiFront } from "../../fronts/openai/front.js";
import type { HttpFront } from "../../mesh/serve/http-front.js";
import { createPipelineApp, pipelineName } from "../../pipeline/pipeline-app.js";
import type { CommandContext } from "../command.js";
import type { pipelineOptions } from "../options/command-options.js";
import type { OptionValues } from "../options/option.js";
import { problemsOf, rejectProblems, type SettingProblem } from "../options/setting-problem.js";
import { packageVersion } from "../package-root.js";
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
  const { directory, extend: extendByRegistry } = registryOf(settings, directoryOf(settings, logger), logger);
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
          readStatus: async () => ({
            version: packageVersion(),
            spans: telemetry.countSpans?.() ?? null,
            jobs: (await jobs?.counts()) ?? null,
          }),
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
            // After the jobs, whose database it shares.
            extendByRegistry && (() => extendByRegistry(isDatabaseUrl(settings.jobs ?? "") ? jobs : undefined)),
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

/** What is wrong with the options of the fronts together. */
export function frontProblems({ fal, falRunHost, jobs }: PipelineSettings): readonly SettingProblem[] {
  return problemsOf([
    [
      fal && jobs === undefined,
      "--fal",
      "needs --jobs: its queue rests on durable jobs; name a folder, or postgres://…",
      "add --jobs, or leave --fal out",
    ],
    [falRunHost !== undefined && !fal, "--fal-run-host", "needs --fal", "add --fal, or leave it out"],
  ]);
}

/** @throws CliError (bad usage) when an option lacks another one that it needs. */
function frontsOf(settings: PipelineSettings): HttpFront[] {
  rejectProblems(frontProblems(settings));
  const { openai, fal, falRunHost, publicUrl } = settings;
  return [
    ...(openai ? [createOpenAiFront()] : []),
    ...(fal ? [createFalFront({ runHost: falRunHost, publicUrl })] : []),
  ];
}
