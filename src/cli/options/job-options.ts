import { defaultWaitingLimits } from "../../jobs/waiting-limits.js";
import { flag, option } from "./option.js";
import { databaseOrFolder, hosts, nonEmpty, oneOf, wholeNumber } from "./values.js";

/** Where the jobs of `dev` and its images are, unless an option says so. */
export const devFolder = ".throughline";

export const devJobsOption = option("--jobs <where>", "Folder of durable jobs and images, or postgres://…", {
  env: "THROUGHLINE_JOBS",
  parse: databaseOrFolder,
  default: devFolder,
});

/** The database of the commands that open it themselves. */
export const jobDatabaseOption = option(
  "--jobs <where>",
  "Database of the jobs: postgres://…, or a folder, which no running dev or pipeline may hold",
  { env: "THROUGHLINE_JOBS", parse: databaseOrFolder, default: devFolder },
);

/** Durable jobs of a pipeline. */
export const jobOptions = {
  jobs: option("--jobs <where>", "Database of durable jobs: postgres://…, or a folder for an embedded one", {
    env: "THROUGHLINE_JOBS",
    parse: databaseOrFolder,
    absent: "no jobs",
  }),
  jobsKeyFile: option(
    "--jobs-key-file <file>",
    "Keys that encrypt the prompts and results of jobs: 32 bytes as base64 a line; the first encrypts, all decrypt",
    { env: "THROUGHLINE_JOBS_KEY_FILE", parse: nonEmpty, absent: "no encryption" },
  ),
  jobsPlaintext: flag(
    "--jobs-plaintext",
    "Allow jobs without --jobs-key-file beyond loopback: prompts rest in the database as they are",
    "THROUGHLINE_JOBS_PLAINTEXT",
  ),
  jobsMaxWaiting: option("--jobs-max-waiting <number>", "Jobs that may wait, of all callers", {
    env: "THROUGHLINE_JOBS_MAX_WAITING",
    parse: wholeNumber(1, 10_000_000),
    default: defaultWaitingLimits.all,
  }),
  jobsMaxWaitingPerCaller: option("--jobs-max-waiting-per-caller <number>", "Jobs of one caller that may wait", {
    env: "THROUGHLINE_JOBS_MAX_WAITING_PER_CALLER",
    parse: wholeNumber(1, 10_000_000),
    default: defaultWaitingLimits.perOwner,
  }),
  jobTrace: option(
    "--job-trace <how>",
    "How a job's run refers to the call that created it: parent, in the same trace, or link, in a trace of its own",
    { env: "THROUGHLINE_JOB_TRACE", ...oneOf("parent", "link"), default: "parent" },
  ),
  webhookHosts: option(
    "--webhook-hosts <host>",
    "Hosts that webhooks of jobs may be sent to, with a port unless it is 443; the flag may be repeated, the variable separates hosts by commas",
    { env: "THROUGHLINE_WEBHOOK_HOSTS", parse: hosts, repeatable: true, absent: "webhooks are off" },
  ),
  webhookSecretFile: option(
    "--webhook-secret-file <file>",
    "Key that signs webhooks as Standard Webhooks: base64, with or without whsec_",
    { env: "THROUGHLINE_WEBHOOK_SECRET_FILE", parse: nonEmpty, absent: "webhooks are off" },
  ),
  webhookLoopback: flag(
    "--webhook-loopback",
    "Send webhooks also to this machine and by http, for tests",
    "THROUGHLINE_WEBHOOK_LOOPBACK",
  ),
};
