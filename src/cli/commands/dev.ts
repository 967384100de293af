import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import * as z from "zod";
import type { Device } from "../../engine/device.js";
import type { CommandContext } from "../command.js";
import { CliError, exitCodes, messageOf } from "../errors.js";
import { defaultCollectorUrl, defaultServerUrl } from "../options/client-options.js";
import type { devOptions } from "../options/command-options.js";
import { devFolder } from "../options/job-options.js";
import type { OptionValues } from "../options/option.js";
import { commandPrefix } from "../package-root.js";
import { makeImageFolder } from "../services/image-stores.js";
import { databaseName, isDatabaseUrl } from "../services/jobs.js";
import { whenAborted } from "../services/lifecycle.js";
import { type CertificateFiles, localCertificate } from "../services/local-certificate.js";
import { type LocalSystem, startLocalSystem } from "../services/local-system.js";
import { loraFlags } from "../services/loras.js";
import { findModel, showDownload } from "../services/model.js";
import { createLogFormat } from "../terminal/log-format.js";
import { createProgress } from "../terminal/progress.js";
import { createRequestsDisplay } from "../terminal/requests-view.js";
import { createTextStyle, isInteractive, type TextStyle } from "../terminal/terminal.js";
import { connectStudio } from "./studio-client.js";
import { type RequestsView, watchRequests } from "./watch-requests.js";

/** Memory that the embedded database takes once it is open (docs/jobs.md has the measurement). */
const embeddedMemory = "300 to 800 MB";

type DevSettings = OptionValues<typeof devOptions>;

/**
 * Runs a collector, a worker and a pipeline until a signal, and shows their requests. When one of them exits, the others are stopped.
 */
export async function runDev(settings: DevSettings, context: CommandContext): Promise<number> {
  // First, because it fails at once.
  const images = settings.images ?? (await makeJobFolder(settings.jobs));
  await makeImageFolder(images);
  const tls = settings.tlsSelfSigned ? await localCertificate(join(folderOf(settings.jobs), "tls")) : undefined;
  await keepRunning(settings, { images, tls }, context);
  return exitCodes.done;
}

/** Creates the folder of the jobs and returns that of the images in it. @throws CliError */
async function makeJobFolder(jobs: string): Promise<string> {
  const images = join(folderOf(jobs), "images");
  await mkdir(images, { recursive: true }).catch((error: unknown) => {
    throw new CliError(
      `cannot create ${images} for jobs and images: ${messageOf(error)}. --jobs names another folder`,
      { cause: error },
    );
  });
  return images;
}

/** Folder of what `dev` keeps besides a database server's. */
function folderOf(jobs: string): string {
  return isDatabaseUrl(jobs) ? devFolder : jobs;
}

/** Files that `dev` has prepared. */
interface DevFiles {
  readonly images: string;
  readonly tls: CertificateFiles | undefined;
}

async function keepRunning(settings: DevSettings, files: DevFiles, context: CommandContext): Promise<void> {
  const { quiet, json } = settings;
  const { stdout, stderr, interrupt } = context;
  const requests = createRequestsDisplay(context, settings);
  const system = await start(settings, files, context, requests.above);
  const over = new AbortController();
  try {
    if (!quiet) {
      // Before the URLs are printed: a reader may send a request at once.
      const signal = AbortSignal.any([interrupt, over.signal]);
      showRequests(system, requests, signal).catch((error: unknown) => {
        const message = messageOf(error);
        requests.above(() => stderr.write(`throughline: ${message}\n`));
      });
    }
    stdout.write(
      json
        ? systemJson(system, settings)
        : describeSystem(system, settings, files.tls, createTextStyle(stdout, context.environment)),
    );
    const death = await Promise.race([
      whenAborted(interrupt),
      ...[system.collector, system.worker, system.pipeline].map(({ command, ended }) =>
        ended.then((how) => `the ${command} ${how}`),
      ),
    ]);
    if (death !== undefined) {
      throw new CliError(`${death}; the others are stopped`);
    }
  } finally {
    over.abort();
    requests.end();
    await system.stop();
  }
}

/** Starts the three, and shows the progress. `above` writes their logs above the live lines. */
async function start(
  settings: DevSettings,
  { images, tls }: DevFiles,
  context: CommandContext,
  above: (write: () => void) => void,
): Promise<LocalSystem> {
  const { pipelinePort, workerPort, collectorPort, model, device, precision, threads, apps, logLevel } = settings;
  const { environment, stderr, interrupt } = context;
  const formatted = createLogFormat(settings.logFormat, context);
  const progress = createProgress(context, settings.quiet || settings.json);
  try {
    // Downloaded here to show the progress; the worker then finds it in the cache.
    await findModel(model, context, showDownload(progress, isInteractive(stderr, environment)));
    progress.phase("starting a collector, a worker and a pipeline");
    const failedDevices: string[] = [];
    const system = await startLocalSystem({
      ports: { collector: collectorPort, worker: workerPort, pipeline: pipelinePort },
      model,
      loras: loraFlags(settings),
      device,
      precision,
      threads,
      images,
      jobs: settings.jobs,
      fal: settings.fal,
      tls,
      apps,
      logLevel,
      environment,
      onLog(line) {
        const failed = device === "auto" && logLevel === "warn" ? failedDeviceOf(line) : undefined;
        if (failed === undefined) {
          progress.above(() => above(() => stderr.write(formatted(line))));
        } else {
          failedDevices.push(failed);
        }
      },
      interrupt,
    });
    progress.end();
    if (!settings.quiet && !settings.json) {
      stderr.write(describeDevice(system.worker.device, device, failedDevices));
    }
    return system;
  } finally {
    progress.end();
  }
}

/** A line with the device in use, and where to look up why `auto` did not take a better one. */
export function describeDevice(used: string | undefined, asked: Device, failed: readonly string[]): string {
  if (used === undefined) {
    return "";
  }
  const missing = used === "cpu" ? "no GPU" : `not ${failed.join(" or ")}`;
  const isSecondChoice = asked === "auto" && (used === "cpu" || failed.length > 0);
  return `running on ${used}${isSecondChoice ? ` (\`${commandPrefix} doctor\` says why ${missing})` : ""}\n`;
}

const deviceFailure = z.object({ device: z.string(), reason: z.string(), remedy: z.string() });

/** The device that a log line of the worker reports as failed. */
function failedDeviceOf(line: string): string | undefined {
  if (!line.includes('"remedy"')) {
    return undefined;
  }
  try {
    return deviceFailure.safeParse(JSON.parse(line)).data?.device;
  } catch {
    return undefined;
  }
}

/** The calls of a pipeline fail a moment before its exit is reported, which is the better message. */
const deathMs = 1000;

/** @throws CliError when the pipeline runs and its requests cannot be watched. */
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

function systemJson({ pipeline, worker, collector }: LocalSystem, { jobs }: DevSettings): string {
  const urls = { studio: `${pipeline.url}/`, pipeline: pipeline.url, worker: worker.url, collector: collector.url };
  return `${JSON.stringify({ kind: "ready", ...urls, jobs: placeOfJobs(jobs) })}\n`;
}

/** Where jobs rest, without a password. */
function placeOfJobs(jobs: string): string {
  return isDatabaseUrl(jobs) ? databaseName(jobs) : resolve(jobs);
}

function describeSystem(
  { pipeline, worker, collector }: LocalSystem,
  { jobs, fal }: DevSettings,
  tls: CertificateFiles | undefined,
  style: TextStyle,
): string {
  const memory = isDatabaseUrl(jobs)
    ? ""
    : `  (an embedded database: ${embeddedMemory} of memory from the first job on)`;
  const here = pipeline.url === defaultServerUrl ? "" : ` --server ${pipeline.url}`;
  const elsewhere = collector.url === defaultCollectorUrl ? "" : ` --collector ${collector.url}`;
  return `
${style("bold", `studio     ${pipeline.url}/`)}

pipeline   ${pipeline.url}
worker     ${worker.url}
collector  ${collector.url}  (OTLP over gRPC and HTTP)
jobs       ${placeOfJobs(jobs)}${memory}

Generate an image:
  ${commandPrefix} generate "a red heart"${here}${elsewhere}
Show its trace:
  ${commandPrefix} trace <trace id>${elsewhere}
Create a job, which outlives this command:
  ${commandPrefix} submit "a pizza"${here}
${fal ? falLines(pipeline.url, tls) : ""}
Ctrl-C stops all three.
`;
}

/** Lines that point fal's clients at a pipeline. Python's speaks https only. */
function falLines(url: string, tls: CertificateFiles | undefined): string {
  const host = `localhost:${new URL(url).port}`;
  const python =
    tls === undefined
      ? `start dev with --tls-self-signed, because it speaks https only`
      : `export FAL_KEY=any FAL_QUEUE_RUN_HOST=${host} FAL_RUN_HOST=${host}/fal/run SSL_CERT_FILE=${resolve(tls.cert)}`;
  return `Use fal's clients:
  Python      ${python}
  JavaScript  fal.config({ proxyUrl: { url: "${url}/fal/proxy", when: "always" } })
  AI SDK      createFal({ baseURL: "${url}/fal/run", apiKey: "any" })
`;
}
