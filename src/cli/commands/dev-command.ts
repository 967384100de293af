import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CommandContext } from "../command-context.js";
import { CommandError } from "../command-error.js";
import { exitCodes } from "../exit-codes.js";
import { type LocalSystem, startLocalSystem } from "../process/local-system.js";
import { whenAborted } from "../process/when-aborted.js";
import { connectStudio } from "../request/studio-client.js";
import { watchRequests } from "../request/watch-requests.js";
import { findModel, showDownload } from "../service/find-model.js";
import type { devSettings } from "../settings/dev-settings.js";
import type { SettingsOf } from "../settings/setting.js";
import { createProgress } from "../terminal/progress.js";
import { createRequestsDisplay } from "../terminal/requests-view.js";
import { isInteractive } from "../terminal/terminal.js";

type DevSettings = SettingsOf<typeof devSettings>;

/**
 * Keeps a collector, a worker and a pipeline running until a signal comes, and shows the requests that they get. When one of them dies, the
 * others are ended too.
 */
export async function runDev(settings: DevSettings, context: CommandContext): Promise<number> {
  const temporary = settings.images === undefined ? await mkdtemp(join(tmpdir(), "throughline-images-")) : undefined;
  try {
    await keepRunning(settings, settings.images ?? temporary, context);
  } finally {
    if (temporary !== undefined) {
      await rm(temporary, { recursive: true, force: true });
    }
  }
  return exitCodes.done;
}

async function keepRunning(settings: DevSettings, images: string | undefined, context: CommandContext): Promise<void> {
  const { pipelinePort, workerPort, collectorPort, model, device, precision, threads, apps, logLevel, json } = settings;
  const { environment, stdout, stderr, interrupt } = context;
  const silent = settings.quiet || json;
  const progress = createProgress(context, silent);
  try {
    // Fetched here, where a person sees how far it is; the worker then finds it in the cache.
    await findModel(model, context, showDownload(progress, isInteractive(stderr, environment)));
  } finally {
    progress.end();
  }
  if (!silent) {
    stderr.write("starting a collector, a worker and a pipeline\n");
  }
  const requests = createRequestsDisplay(context, settings);
  const system = await startLocalSystem({
    ports: { collector: collectorPort, worker: workerPort, pipeline: pipelinePort },
    model,
    device,
    precision,
    threads,
    images,
    apps,
    logLevel,
    environment,
    onLog: (line) => requests.above(() => stderr.write(`${line}\n`)),
    interrupt,
  });
  const over = new AbortController();
  try {
    stdout.write(json ? systemJson(system) : describeSystem(system));
    if (!settings.quiet) {
      const pipeline = connectStudio(system.pipeline.url);
      const collector = connectStudio(system.collector.url);
      const signal = AbortSignal.any([interrupt, over.signal]);
      watchRequests({ pipeline, collector, view: requests, signal }).catch((error: unknown) => {
        // A pipeline that has died is told of below.
        const message = error instanceof Error ? error.message : String(error);
        requests.above(() => stderr.write(`throughline: ${message}\n`));
      });
    }
    const death = await Promise.race([
      whenAborted(interrupt),
      ...[system.collector, system.worker, system.pipeline].map(({ command, ended }) =>
        ended.then((how) => `the ${command} ${how}`),
      ),
    ]);
    if (death !== undefined) {
      throw new CommandError(`${death}; the others are ended too`);
    }
  } finally {
    over.abort();
    requests.end();
    await system.stop();
  }
}

function systemJson({ pipeline, worker, collector }: LocalSystem): string {
  const urls = { pipeline: pipeline.url, worker: worker.url, collector: collector.url };
  return `${JSON.stringify({ kind: "ready", ...urls })}\n`;
}

function describeSystem({ pipeline, worker, collector }: LocalSystem): string {
  return `
pipeline   ${pipeline.url}
worker     ${worker.url}
collector  ${collector.url}  (OTLP over gRPC and HTTP)

A picture:
  npx buf curl -d '{"prompt": "a red heart"}' ${pipeline.url}/throughline.v1.ImagePipelineService/Generate
Its trace:
  curl '${collector.url}/traces/<trace id>?format=text'

Ctrl-C ends all three.
`;
}
