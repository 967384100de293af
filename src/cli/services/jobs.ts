import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import type { PipelineCalls } from "../../calls/pipeline-calls.js";
import { lockJobFolder } from "../../jobs/folder-lock.js";
import { type JobDatabase, openJobDatabase } from "../../jobs/job-database.js";
import { createJobFolder, type JobFolder } from "../../jobs/job-files.js";
import { JobSchemaError } from "../../jobs/job-schema.js";
import { createJobs, type Jobs } from "../../jobs/jobs.js";
import { createPayloadCipher, type PayloadCipher } from "../../jobs/payload-cipher.js";
import { hasFolderDatabase, JobFolderError, openFolderDatabase } from "../../jobs/pglite-folder.js";
import { unreachableHosts } from "../../jobs/webhook-target.js";
import { isLoopbackName } from "../../mesh/port/listen-exposure.js";
import type { PipelineExtension } from "../../pipeline/pipeline-app.js";
import type { Bucket } from "../../s3/bucket.js";
import { createJobBucket } from "../../s3/job-bucket.js";
import type { Telemetry } from "../../trace/telemetry/telemetry.js";
import { CliError, messageOf } from "../errors.js";
import type { jobOptions } from "../options/job-options.js";
import type { OptionValues } from "../options/option.js";
import { problemsOf, rejectProblems, type SettingProblem } from "../options/setting-problem.js";

/** Options of {@link jobsOf}. */
export interface JobsOfOptions {
  /** Address of the pipeline. */
  readonly host: string;
  /** Folder of the pipeline's images, in which those of jobs are stored. */
  readonly images: string | undefined;
  /** Bucket for the images instead of a folder. */
  readonly bucket: Bucket | undefined;
  readonly publicUrl: string | undefined;
  readonly trustTraceparent: boolean;
  readonly telemetry: Telemetry;
  readonly logger: Logger;
}

/** The jobs of a pipeline, with what its autoscaler, its status and its registry need of them. */
export type PipelineJobs = PipelineExtension & Pick<Jobs, "counts" | "database" | "demand" | "peers">;

/**
 * Prepares the jobs of a pipeline; undefined without `--jobs`.
 *
 * @throws CliError (bad usage) when an option lacks another one that it needs; CliError that names the file that is wrong.
 */
export async function jobsOf(
  settings: OptionValues<typeof jobOptions>,
  options: JobsOfOptions,
): Promise<((calls: PipelineCalls) => PipelineJobs) | undefined> {
  rejectProblems(jobProblems(settings, { ...options, hasBucket: options.bucket !== undefined }));
  const { jobs, jobsKeyFile, jobsMaxWaiting, jobsMaxWaitingPerCaller, jobTrace } = settings;
  const { host, publicUrl, trustTraceparent, telemetry, logger } = options;
  if (jobs === undefined) {
    return undefined;
  }
  const isServer = isDatabaseUrl(jobs);
  const cipher = await cipherOf(jobsKeyFile);
  const webhooks = await webhooksOf(settings);
  const folder = await jobFolderOf(jobs, options);
  const unlock = isServer ? undefined : await lockFolder(jobs);
  // An embedded database takes hundreds of megabytes, which a pipeline without jobs need not have.
  const isNew = !isServer && !(await hasFolderDatabase(jobs));
  return (calls) => {
    const made = createJobs({
      openDatabase: () =>
        openDatabase(jobs, (error) => logger.warn({ err: error }, "the jobs' database reports an error")),
      isNew,
      folder,
      cipher,
      pipeline: calls,
      limits: { all: jobsMaxWaiting, perOwner: jobsMaxWaitingPerCaller },
      jobTrace,
      webhooks,
      headerPolicy: trustTraceparent ? "trust" : "link",
      listsAnonymous: isLoopbackName(host),
      publicUrl,
      telemetry,
      logger,
    });
    return {
      ...made,
      async close() {
        await made.close();
        unlock?.();
      },
    };
  };
}

/** What is wrong with the options of jobs together, before their files are read. */
export function jobProblems(
  settings: OptionValues<typeof jobOptions>,
  place: Pick<JobsOfOptions, "host" | "images"> & { readonly hasBucket: boolean },
): readonly SettingProblem[] {
  const { jobs, jobsKeyFile, jobsPlaintext, webhookHosts, webhookSecretFile, webhookLoopback } = settings;
  const isSafe = jobsKeyFile !== undefined || jobsPlaintext || isLoopbackName(place.host);
  const hasPlace = place.hasBucket || place.images !== undefined || (jobs !== undefined && !isDatabaseUrl(jobs));
  const unreachable = unreachableHosts({ hosts: webhookHosts ?? [], allowsLoopback: webhookLoopback });
  const hasJobs = jobs !== undefined;
  return problemsOf([
    [
      !hasJobs && (jobsKeyFile !== undefined || jobsPlaintext),
      "--jobs-key-file and --jobs-plaintext",
      "need --jobs",
      "add --jobs, or leave them out",
    ],
    [
      hasJobs && !isSafe,
      "--jobs",
      "beyond loopback stores prompts of others: encrypt them with --jobs-key-file, or set --jobs-plaintext",
      "write a key with `openssl rand -base64 32` into a file, and name it with --jobs-key-file",
    ],
    [
      hasJobs && !hasPlace,
      "--jobs",
      "with a database server needs a place for the jobs' images: --images FOLDER or --image-store s3://…",
      "add --images or --image-store",
    ],
    [
      hasJobs && (webhookHosts === undefined) !== (webhookSecretFile === undefined),
      "--webhook-hosts and --webhook-secret-file",
      "need each other; one of them is missing",
      "set both, or neither",
    ],
    [
      hasJobs && unreachable.length > 0,
      "--webhook-hosts",
      `${unreachable.join(", ")}: webhooks are sent to public addresses only; --webhook-loopback allows this machine, for tests`,
      "name public hosts",
    ],
  ]);
}

/** Folder of the jobs' images; undefined if there is none. */
export function jobImageFolder(jobs: string, images: string | undefined): string | undefined {
  return images ?? (isDatabaseUrl(jobs) ? undefined : join(jobs, "images"));
}

/** Where the images of jobs are stored. {@link jobProblems} has seen that an option says where. */
async function jobFolderOf(jobs: string, { images, bucket }: JobsOfOptions): Promise<JobFolder> {
  return bucket === undefined ? createJobFolder(jobImageFolder(jobs, images) ?? jobs) : createJobBucket(bucket);
}

/** @throws CliError if another process holds the folder, or it cannot be created. */
async function lockFolder(folder: string): Promise<() => void> {
  try {
    const unlock = await lockJobFolder(folder);
    // So that no repository takes it in.
    await writeFile(join(folder, ".gitignore"), "*\n").catch((error: unknown) => {
      unlock();
      throw error;
    });
    return unlock;
  } catch (error) {
    const reason =
      error instanceof JobFolderError
        ? error.message
        : `cannot use the folder of --jobs, ${folder}: ${messageOf(error)}`;
    throw new CliError(reason, { cause: error });
  }
}

/**
 * Opens the database of `--jobs` for a command of its own, with its folder locked.
 *
 * @throws CliError with the remedy.
 */
export async function withDatabase<T>(
  jobs: string,
  onError: (error: unknown) => void,
  work: (database: JobDatabase) => Promise<T>,
): Promise<T> {
  const unlock = isDatabaseUrl(jobs) ? undefined : await lockFolder(jobs);
  try {
    const database = await openDatabase(jobs, onError);
    try {
      return await work(database);
    } finally {
      await database.close();
    }
  } finally {
    unlock?.();
  }
}

/** Whether `--jobs` names a database server and not a folder. */
export function isDatabaseUrl(jobs: string): boolean {
  return /^postgres(?:ql)?:\/\//.test(jobs);
}

/**
 * Opens the database of `--jobs`.
 *
 * @throws CliError with the remedy. The password of a URL stands in no message.
 */
async function openDatabase(jobs: string, onError: (error: unknown) => void, migrate = true): Promise<JobDatabase> {
  try {
    if (isDatabaseUrl(jobs)) {
      return await openJobDatabase({ source: jobs, migrate, onError });
    }
    return await openJobDatabase({ source: await openFolderDatabase(jobs), migrate, onError });
  } catch (error) {
    if (error instanceof JobFolderError || error instanceof JobSchemaError) {
      throw new CliError(error.message, { cause: error });
    }
    const where = isDatabaseUrl(jobs) ? databaseName(jobs) : jobs;
    const remedy = isDatabaseUrl(jobs) ? "Check that it runs and that --jobs names it" : "--jobs names another folder";
    throw new CliError(`cannot open the jobs' database ${where}: ${messageOf(error)}. ${remedy}`, { cause: error });
  }
}

/** Host, port and database of a URL, without its credentials. */
export function databaseName(url: string): string {
  if (!URL.canParse(url)) {
    return "of --jobs, which is no URL";
  }
  const { host, pathname } = new URL(url);
  return `${pathname.slice(1) || "postgres"} at ${host || "the default host"}`;
}

/** Webhooks of jobs; undefined if they are off. @throws CliError when the secret cannot be read. */
async function webhooksOf({ webhookHosts, webhookSecretFile, webhookLoopback }: OptionValues<typeof jobOptions>) {
  if (webhookHosts === undefined || webhookSecretFile === undefined) {
    return undefined;
  }
  return {
    policy: { hosts: webhookHosts, allowsLoopback: webhookLoopback },
    secret: await readWebhookSecret(webhookSecretFile),
  };
}

/** @throws CliError when the file cannot be read, or has no key. */
export async function readWebhookSecret(webhookSecretFile: string): Promise<string> {
  const secret = (await readSecret("--webhook-secret-file", webhookSecretFile)).trim();
  if (!/^(?:whsec_)?[A-Za-z0-9+/]{32,}={0,2}$/.test(secret)) {
    throw new CliError(
      `--webhook-secret-file ${webhookSecretFile} must have 24 bytes or more as base64, such as \`openssl rand -base64 32\` prints`,
    );
  }
  return secret;
}

async function readSecret(flag: string, file: string): Promise<string> {
  return readFile(file, "utf8").catch((error: unknown) => {
    throw new CliError(`cannot read ${flag} ${file}: ${messageOf(error)}`, { cause: error });
  });
}

const keyBytes = 32;

/** @throws CliError when the file cannot be read, or a line is no key. */
export async function cipherOf(file: string | undefined): Promise<PayloadCipher> {
  if (file === undefined) {
    return createPayloadCipher([]);
  }
  const text = await readSecret("--jobs-key-file", file);
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  const keys = lines.filter((line) => line !== "" && !line.startsWith("#")).map((line) => Buffer.from(line, "base64"));
  if (keys.length === 0 || keys.some((key) => key.length !== keyBytes)) {
    throw new CliError(
      `--jobs-key-file ${file} must have one key a line, 32 bytes as base64, such as \`openssl rand -base64 32\` prints`,
    );
  }
  return createPayloadCipher(keys);
}
