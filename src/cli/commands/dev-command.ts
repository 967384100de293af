import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CommandContext } from "../command-context.js";
import { CommandError } from "../command-error.js";
import { exitCodes } from "../exit-codes.js";
import { type LocalSystem, startLocalSystem } from "../process/local-system.js";
import { whenAborted } from "../process/when-aborted.js";
import { findModel, showDownload } from "../service/find-model.js";
import type { devSettings } from "../settings/dev-settings.js";
import type { SettingsOf } from "../settings/setting.js";
import { createProgress } from "../terminal/progress.js";

type DevSettings = SettingsOf<typeof devSettings>;

/** Keeps a collector, a worker and a pipeline running until a signal comes. When one of them dies, the others are ended too. */
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
  const { pipelinePort, workerPort, collectorPort, model, device, precision, threads, apps, logLevel } = settings;
  const { environment, stdout, stderr, interrupt } = context;
  const progress = createProgress(stderr, false);
  try {
    // Fetched here, where a person sees how far it is; the worker then finds it in the cache.
    await findModel(model, context, showDownload(progress, stderr.isTTY === true));
  } finally {
    progress.end();
  }
  stderr.write("starting a collector, a worker and a pipeline\n");
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
    interrupt,
  });
  try {
    stdout.write(describeSystem(system));
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
    await system.stop();
  }
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
