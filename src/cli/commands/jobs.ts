import { createClient } from "@connectrpc/connect";
import { type Job, JobService, JobState } from "../../gen/throughline/v1/job_pb.js";
import { redriveWebhooks } from "../../jobs/webhooks.js";
import { createLeaseTable } from "../../registry/lease-table.js";
import { printable } from "../../studio/trace-text.js";
import type { CommandContext } from "../command.js";
import { CliError, exitCodes, messageOf, usageError } from "../errors.js";
import type { jobCommandOptions, jobDatabaseOptions, jobListOptions } from "../options/command-options.js";
import type { OptionValues } from "../options/option.js";
import { withDatabase } from "../services/jobs.js";
import { accessOf } from "../services/security.js";
import { createProgress } from "../terminal/progress.js";
import { createTextStyle, jsonLine } from "../terminal/terminal.js";
import { jobToJson, renderJob, renderJobs } from "./job-text.js";
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
  stdout.write(
    json ? jsonLine({ jobs: found.map(jobToJson) }) : renderJobs(found, createTextStyle(stdout, environment)),
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

/** Watches a job to its end, and prints it; as JSON, each of its states in a line. Exit code 1: it has not succeeded. */
export async function runJobsWatch(settings: JobSettings, context: CommandContext, text: string): Promise<number> {
  const { json } = settings;
  const id = jobIdOf(text);
  const client = connectJobs(settings);
  const { job } = await call(settings, context, () => client.getJob({ id }, { signal: context.interrupt }));
  if (job === undefined) {
    throw new CliError(`${settings.server} returned no job`);
  }
  const progress = createProgress(context, json);
  let printed = "";
  const onState = (state: Job): void => {
    const line = jsonLine(jobToJson(state));
    // A preview, and the first state after a lost connection, may change nothing that is printed.
    if (json && line !== printed) {
      context.stdout.write(line);
      printed = line;
    }
  };
  try {
    const last = await watchToEnd(client, job, { ...settings, ...context, progress, onState });
    progress.end();
    if (!json) {
      printJob(last, settings, context);
    }
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
  await withDatabase(jobs, reportTo(context), createLeaseTable);
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
    stdout.write(json ? jsonLine(jobToJson(job)) : renderJob(job, createTextStyle(stdout, environment)));
  }
  return exitCodes.done;
}
