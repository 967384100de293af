import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { CommandContext } from "../command.js";
import { CliError, exitCodes, messageOf } from "../errors.js";
import { defaultCollectorUrl, defaultServerUrl } from "../options/client-options.js";
import type { devOptions } from "../options/command-options.js";
import type { OptionValues } from "../options/option.js";
import { commandPrefix } from "../package-root.js";
import { whenAborted } from "../services/lifecycle.js";
import { type LocalSystem, startLocalSystem } from "../services/local-system.js";
import { findModel, showDownload } from "../services/model.js";
import { createProgress } from "../terminal/progress.js";
import { createRequestsDisplay } from "../terminal/requests-view.js";
import { isInteractive } from "../terminal/terminal.js";
import { connectStudio } from "./studio-client.js";
import { type RequestsView, watchRequests } from "./watch-requests.js";

type DevSettings = OptionValues<typeof devOptions>;

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
  const { quiet, json } = settings;
  const { stdout, stderr, interrupt } = context;
  const requests = createRequestsDisplay(context, settings);
  const system = await start(settings, images, context, requests.above);
  const over = new AbortController();
  try {
    if (!quiet) {
      // Before the URLs are told: whoever reads them may ask at once.
      const signal = AbortSignal.any([interrupt, over.signal]);
      showRequests(system, requests, signal).catch((error: unknown) => {
        const message = messageOf(error);
        requests.above(() => stderr.write(`throughline: ${message}\n`));
      });
    }
    stdout.write(json ? systemJson(system) : describeSystem(system));
    const death = await Promise.race([
      whenAborted(interrupt),
      ...[system.collector, system.worker, system.pipeline].map(({ command, ended }) =>
        ended.then((how) => `the ${command} ${how}`),
      ),
    ]);
    if (death !== undefined) {
      throw new CliError(`${death}; the others are ended too`);
    }
  } finally {
    over.abort();
    requests.end();
    await system.stop();
  }
}

/** Starts the three, and shows how far that is. Their logs are written above what `above` keeps at the foot of the terminal. */
async function start(
  settings: DevSettings,
  images: string | undefined,
  context: CommandContext,
  above: (write: () => void) => void,
): Promise<LocalSystem> {
  const { pipelinePort, workerPort, collectorPort, model, device, precision, threads, apps, logLevel } = settings;
  const { environment, stderr, interrupt } = context;
  const progress = createProgress(context, settings.quiet || settings.json);
  try {
    // Fetched here, where a person sees how far it is; the worker then finds it in the cache.
    await findModel(model, context, showDownload(progress, isInteractive(stderr, environment)));
    progress.phase("starting a collector, a worker and a pipeline");
    return await startLocalSystem({
      ports: { collector: collectorPort, worker: workerPort, pipeline: pipelinePort },
      model,
      device,
      precision,
      threads,
      images,
      apps,
      logLevel,
      environment,
      onLog: (line) => progress.above(() => above(() => stderr.write(`${line}\n`))),
      interrupt,
    });
  } finally {
    progress.end();
  }
}

/** A pipeline that has died leaves its calls a moment before it is known to be gone, which says more. */
const deathMs = 1000;

/** @throws CliError when the pipeline lives and does not tell of its requests. */
async function showRequests(system: LocalSystem, view: RequestsView, signal: AbortSignal): Promise<void> {
  const pipeline = connectStudio(system.pipeline.url);
  const collector = connectStudio(system.collector.url);
  try {
    await watchRequests({ pipeline, collector, view, signal });
  } catch (error) {
    await Promise.race([whenAborted(signal), delay(deathMs, undefined, { ref: false })]);
    if (!signal.aborted) {
      throw error;
    }
  }
}

function systemJson({ pipeline, worker, collector }: LocalSystem): string {
  const urls = { studio: `${pipeline.url}/`, pipeline: pipeline.url, worker: worker.url, collector: collector.url };
  return `${JSON.stringify({ kind: "ready", ...urls })}\n`;
}

function describeSystem({ pipeline, worker, collector }: LocalSystem): string {
  const here = pipeline.url === defaultServerUrl ? "" : ` --server ${pipeline.url}`;
  const elsewhere = collector.url === defaultCollectorUrl ? "" : ` --collector ${collector.url}`;
  return `
studio     ${pipeline.url}/

pipeline   ${pipeline.url}
worker     ${worker.url}
collector  ${collector.url}  (OTLP over gRPC and HTTP)

An image:
  ${commandPrefix} generate "a red heart"${here}${elsewhere}
Its trace:
  ${commandPrefix} trace <trace id>${elsewhere}

Ctrl-C ends all three.
`;
}
