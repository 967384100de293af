import type { Command } from "./command.js";
import {
  appsOptions,
  collectorOptions,
  configCheckOptions,
  demoOptions,
  devOptions,
  doctorOptions,
  generateOptions,
  jobCommandOptions,
  jobDatabaseOptions,
  jobListOptions,
  jobWatchOptions,
  keysOptions,
  pipelineOptions,
  statusOptions,
  submitOptions,
  traceOptions,
  tracesOptions,
  workerOptions,
} from "./options/command-options.js";
import type { OptionGroup } from "./options/option.js";

/** Receives each command with the type of its options. */
export type CommandVisitor = <Group extends OptionGroup>(command: Command<Group>) => void;

const promptArgument = { name: "prompt", help: "text that describes the image", words: true } as const;

const jobArgument = { name: "id", help: "id of the job: 32 hexadecimal digits" } as const;

/** Visits all commands, in the order of the help. */
export function visitCommands(visit: CommandVisitor): void {
  visit({
    name: "demo",
    summary: "Generate one image with a temporary worker, pipeline and collector, and show the trace",
    options: demoOptions,
    argument: { ...promptArgument, default: "a red heart" },
    load: async () => (await import("./commands/demo.js")).runDemo,
  });
  visit({
    name: "dev",
    summary: "Run a worker, a pipeline and a collector on this machine, with the studio",
    options: devOptions,
    load: async () => (await import("./commands/dev.js")).runDev,
  });
  visit({
    name: "worker",
    summary: "Run TextToImageWorker: load a model and generate images",
    options: workerOptions,
    load: async () => (await import("./commands/worker.js")).runWorker,
  });
  visit({
    name: "pipeline",
    summary: "Run ImagePipeline: accept requests and call workers",
    options: pipelineOptions,
    load: async () => (await import("./commands/pipeline.js")).runPipeline,
  });
  visit({
    name: "collector",
    summary: "Run a small OTLP collector that keeps the newest traces in memory",
    options: collectorOptions,
    load: async () => (await import("./commands/collector.js")).runCollector,
  });
  visit({
    name: "generate",
    summary: "Request one image from a running pipeline",
    options: generateOptions,
    argument: { ...promptArgument, optional: "that of --settings-from" },
    load: async () => (await import("./commands/generate.js")).runGenerate,
  });
  visit({
    name: "submit",
    summary: "Create a durable job for one image on a running pipeline",
    options: submitOptions,
    argument: { ...promptArgument, optional: "that of --settings-from" },
    load: async () => (await import("./commands/submit.js")).runSubmit,
  });
  visit({
    name: "jobs list",
    summary: "List your jobs, the newest first",
    options: jobListOptions,
    load: async () => (await import("./commands/jobs.js")).runJobsList,
  });
  visit({
    name: "jobs get",
    summary: "Print a job",
    options: jobCommandOptions,
    argument: jobArgument,
    load: async () => (await import("./commands/jobs.js")).runJobsGet,
  });
  visit({
    name: "jobs watch",
    summary: "Watch a job to its end; exits with 1 if it has not succeeded",
    options: jobWatchOptions,
    argument: jobArgument,
    load: async () => (await import("./commands/jobs.js")).runJobsWatch,
  });
  visit({
    name: "jobs cancel",
    summary: "Cancel a job that waits or runs",
    options: jobCommandOptions,
    argument: jobArgument,
    load: async () => (await import("./commands/jobs.js")).runJobsCancel,
  });
  visit({
    name: "jobs delete",
    summary: "Delete a job, its prompt and its image",
    options: jobCommandOptions,
    argument: jobArgument,
    load: async () => (await import("./commands/jobs.js")).runJobsDelete,
  });
  visit({
    name: "jobs migrate",
    summary: "Create or update the tables of a jobs' database",
    options: jobDatabaseOptions,
    load: async () => (await import("./commands/jobs.js")).runJobsMigrate,
  });
  visit({
    name: "jobs redrive",
    summary: "Send the webhooks again of which all tries failed",
    options: jobDatabaseOptions,
    load: async () => (await import("./commands/jobs.js")).runJobsRedrive,
  });
  visit({
    name: "trace",
    summary: "Print a trace of the local collector",
    options: traceOptions,
    argument: { name: "id", help: "id of the trace: 32 hexadecimal digits" },
    load: async () => (await import("./commands/trace.js")).runTrace,
  });
  visit({
    name: "traces",
    summary: "List the newest traces of the local collector",
    options: tracesOptions,
    load: async () => (await import("./commands/trace.js")).runTraces,
  });
  visit({
    name: "apps",
    summary: "List the worker apps with their health, and with a pipeline's metrics",
    options: appsOptions,
    load: async () => (await import("./commands/apps.js")).runApps,
  });
  visit({
    name: "status",
    summary: "Show a pipeline with its apps, replicas, jobs, lost spans and versions",
    options: statusOptions,
    load: async () => (await import("./commands/status.js")).runStatus,
  });
  visit({
    name: "config check",
    summary: "Check the flags, variables and files of a service without starting it",
    options: configCheckOptions,
    passThrough: true,
    argument: {
      name: "command",
      help: "pipeline, worker, dev or collector, and then its flags",
      optional: "pipeline and worker, by their variables",
    },
    load: async () => (await import("./commands/config-check.js")).runConfigCheck,
  });
  visit({
    name: "doctor",
    summary: "Check this machine, and report how to fix what is wrong",
    options: doctorOptions,
    load: async () => (await import("./commands/doctor.js")).runDoctor,
  });
  visit({
    name: "keys",
    summary: "Create a key for a caller",
    options: keysOptions,
    load: async () => (await import("./commands/keys.js")).runKeys,
  });
}

/** Loads a command's code before its run. */
export async function loadCommand(name: string): Promise<void> {
  const loading: Promise<unknown>[] = [];
  visitCommands((command) => {
    if (command.name === name) {
      loading.push(command.load());
    }
  });
  await Promise.all(loading);
}
