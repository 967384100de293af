import { timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { type Job, JobPriority, JobService, JobState } from "../../gen/throughline/v1/job_pb.js";
import { redriveWebhooks } from "../../jobs/webhooks.js";
import { printable } from "../../studio/trace-text.js";
import type { CommandContext } from "../command.js";
import { CliError, exitCodes, messageOf, usageError } from "../errors.js";
import type { jobCommandOptions, jobDatabaseOptions, jobListOptions } from "../options/command-options.js";
import type { OptionValues } from "../options/option.js";
import { withDatabase } from "../services/jobs.js";
import { accessOf } from "../services/security.js";
import { createProgress } from "../terminal/progress.js";
import { createTextStyle, formatWait, jsonLine, type TextStyle } from "../terminal/terminal.js";
import { maxMessageBytes } from "./request-image.js";
import { createServerTransport, describeCallFailure } from "./studio-client.js";
import { watchToEnd } from "./watch-job.js";

type JobSettings = OptionValues<typeof jobCommandOptions>;

const idPattern = /^[0-9a-f]{32}$/;

/** Client of a pipeline's jobs. */
export function connectJobs(settings: JobSettings) {
  const { server } = settings;
  return createClient(JobService, createServerTransport({ server, access: accessOf(settings), maxMessageBytes }));
}

/** Makes a call about a job, with errors for a person. */
async function call<T>({ server }: JobSettings, { interrupt }: CommandContext, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    interrupt.throwIfAborted();
    throw new CliError(describeCallFailure(server, error, "pipeline"), { cause: error });
  }
}

/** @throws CliError (bad usage) */
function jobIdOf(text: string): string {
  const id = text.toLowerCase();
  if (!idPattern.test(id)) {
    throw usageError(`a job id is 32 hexadecimal digits, got "${printable(text)}"`);
  }
  return id;
}

/** Lists the caller's jobs, the newest first. */
export async function runJobsList(
  settings: OptionValues<typeof jobListOptions>,
  context: CommandContext,
): Promise<number> {
  const { limit, json } = settings;
  const { stdout, environment, interrupt } = context;
  const client = connectJobs(settings);
  const found: Job[] = [];
  let pageToken = "";
  do {
    const pageSize = Math.min(100, limit - found.length);
    const page = await call(settings, context, () => client.listJobs({ pageSize, pageToken }, { signal: interrupt }));
    found.push(...page.jobs);
    pageToken = page.nextPageToken;
  } while (pageToken !== "" && found.length < limit);
  const style = createTextStyle(stdout, environment);
  stdout.write(
    json
      ? jsonLine({ jobs: found.map(jobToJson) })
      : found.length === 0
        ? "no jobs\n"
        : found.map((job) => `${describeJob(job, style)}\n`).join(""),
  );
  return exitCodes.done;
}

/** Prints one job. */
export async function runJobsGet(settings: JobSettings, context: CommandContext, text: string): Promise<number> {
  const id = jobIdOf(text);
  const { job } = await call(settings, context, () =>
    connectJobs(settings).getJob({ id }, { signal: context.interrupt }),
  );
  return printJob(job, settings, context);
}

/** Watches a job to its end, and prints it. Exit code 1: it has not succeeded. */
export async function runJobsWatch(settings: JobSettings, context: CommandContext, text: string): Promise<number> {
  const id = jobIdOf(text);
  const client = connectJobs(settings);
  const { job } = await call(settings, context, () => client.getJob({ id }, { signal: context.interrupt }));
  if (job === undefined) {
    throw new CliError(`${settings.server} returned no job`);
  }
  const progress = createProgress(context, settings.json);
  try {
    const last = await watchToEnd(client, job, { ...settings, ...context, progress, onPreview() {} });
    progress.end();
    printJob(last, settings, context);
    return last.state === JobState.SUCCEEDED ? exitCodes.done : exitCodes.failed;
  } finally {
    progress.end();
  }
}

/** Cancels a job, and prints it. */
export async function runJobsCancel(settings: JobSettings, context: CommandContext, text: string): Promise<number> {
  const id = jobIdOf(text);
  const { job } = await call(settings, context, () =>
    connectJobs(settings).cancelJob({ id }, { signal: context.interrupt }),
  );
  return printJob(job, settings, context);
}

/** Deletes a job, its prompt and its image. */
export async function runJobsDelete(settings: JobSettings, context: CommandContext, text: string): Promise<number> {
  const id = jobIdOf(text);
  await call(settings, context, () => connectJobs(settings).deleteJob({ id }, { signal: context.interrupt }));
  context.stdout.write(settings.json ? jsonLine({ id, deleted: true }) : `job ${id} is deleted\n`);
  return exitCodes.done;
}

/** Creates or updates the tables of a jobs' database. */
export async function runJobsMigrate(
  { jobs }: OptionValues<typeof jobDatabaseOptions>,
  context: CommandContext,
): Promise<number> {
  await withDatabase(jobs, reportTo(context), async () => {});
  context.stdout.write("the jobs' database is up to date\n");
  return exitCodes.done;
}

/** Sends the webhooks again whose last try had failed. */
export async function runJobsRedrive(
  { jobs }: OptionValues<typeof jobDatabaseOptions>,
  context: CommandContext,
): Promise<number> {
  const count = await withDatabase(jobs, reportTo(context), redriveWebhooks);
  context.stdout.write(`${count} ${count === 1 ? "webhook is" : "webhooks are"} sent again\n`);
  return exitCodes.done;
}

const reportTo =
  ({ stderr }: CommandContext) =>
  (error: unknown) =>
    stderr.write(`throughline: ${messageOf(error)}\n`);

function printJob(job: Job | undefined, { json }: JobSettings, { stdout, environment }: CommandContext): number {
  if (job !== undefined) {
    stdout.write(json ? jsonLine(jobToJson(job)) : `${describeJob(job, createTextStyle(stdout, environment))}\n`);
  }
  return exitCodes.done;
}

const plain: TextStyle = (_style, text) => text;

/** A job in a line: id, state, and what the state is about. */
export function describeJob(job: Job, style: TextStyle = plain): string {
  const state = JobState[job.state].toLowerCase();
  const attempt = job.attempt > 1 ? `, attempt ${job.attempt}` : "";
  return `${job.id}  ${style("bold", state.padEnd(9))}  ${detailOf(job)}${attempt}`;
}

function detailOf({ state, detail, startTime, endTime, workerApp }: Job): string {
  switch (detail.case) {
    case "queued": {
      const { position, estimatedWaitMs } = detail.value;
      const wait = estimatedWaitMs > 0 ? `, starts in about ${formatWait(estimatedWaitMs)}` : "";
      return `${position === 0 ? "next" : `${position} before it`}${wait}`;
    }
    case "progress": {
      const { step, totalSteps } = detail.value;
      return totalSteps === 0 ? workerApp : `step ${step} of ${totalSteps}`;
    }
    case "result": {
      const { image, seed } = detail.value;
      const took = startTime && endTime ? `, ${formatWait(timestampMs(endTime) - timestampMs(startTime))}` : "";
      const where =
        image === undefined || image.url === "" || image.url.startsWith("data:")
          ? ""
          : `  ${printable(image.url, 300)}`;
      return `${image?.width}×${image?.height}, seed ${seed}${took}${where}`;
    }
    case "error":
      return `${codeName(detail.value.code)}: ${printable(detail.value.message, 300)}`;
    default:
      return state === JobState.QUEUED ? "waits" : workerApp;
  }
}

/** A job as `--json` prints it. */
export function jobToJson(job: Job): object {
  const { detail } = job;
  return {
    id: job.id,
    state: JobState[job.state],
    workerApp: job.workerApp,
    priority: JobPriority[job.priority],
    createTime: job.createTime && new Date(timestampMs(job.createTime)).toISOString(),
    startTime: job.startTime && new Date(timestampMs(job.startTime)).toISOString(),
    endTime: job.endTime && new Date(timestampMs(job.endTime)).toISOString(),
    expireTime: job.expireTime && new Date(timestampMs(job.expireTime)).toISOString(),
    attempt: job.attempt,
    traceId: job.traceId,
    ...(detail.case === "queued" && {
      position: detail.value.position,
      estimatedWaitMs: detail.value.estimatedWaitMs,
    }),
    ...(detail.case === "progress" && { step: detail.value.step, totalSteps: detail.value.totalSteps }),
    ...(detail.case === "result" && { seed: detail.value.seed, imageUrl: detail.value.image?.url }),
    ...(detail.case === "error" && {
      error: { code: codeName(detail.value.code), message: detail.value.message },
    }),
  };
}

/** Why a job that was waited for has no image. */
export function jobFailure(job: Job): CliError {
  const { detail, id, state } = job;
  const reason =
    detail.case === "error"
      ? `has failed: ${codeName(detail.value.code)}: ${printable(detail.value.message, 1000)}`
      : `is ${JobState[state].toLowerCase()}`;
  return new CliError(`job ${id} ${reason}`);
}

function codeName(code: number): string {
  const known = Object.values(Code).find((value): value is Code => value === code);
  return known === undefined ? `code ${code}` : codeToString(known).toUpperCase();
}
