import type { Command } from "./command.js";
import { appsSettings } from "./settings/apps-settings.js";
import { collectorSettings } from "./settings/collector-settings.js";
import { demoSettings } from "./settings/demo-settings.js";
import { devSettings } from "./settings/dev-settings.js";
import { doctorSettings } from "./settings/doctor-settings.js";
import { generateSettings } from "./settings/generate-settings.js";
import { keysSettings } from "./settings/keys-settings.js";
import { pipelineSettings } from "./settings/pipeline-settings.js";
import type { SettingGroup } from "./settings/setting.js";
import { traceSettings, tracesSettings } from "./settings/trace-settings.js";
import { workerSettings } from "./settings/worker-settings.js";

/** Calls back with each command, its own type of settings kept. */
export type CommandVisitor = <Group extends SettingGroup>(command: Command<Group>) => void;

const promptArgument = { name: "prompt", help: "text to paint", words: true } as const;

/** All commands, in the order of the help. */
export function visitCommands(visit: CommandVisitor): void {
  visit({
    name: "demo",
    summary: "Paint one picture with a worker, a pipeline and a collector of its own, and show the trace",
    settings: demoSettings,
    argument: { ...promptArgument, default: "a red heart" },
    load: async () => (await import("./commands/demo-command.js")).runDemo,
  });
  visit({
    name: "dev",
    summary: "Keep a worker, a pipeline and a collector running on this machine",
    settings: devSettings,
    load: async () => (await import("./commands/dev-command.js")).runDev,
  });
  visit({
    name: "worker",
    summary: "Run TextToImageWorker: load a model and paint",
    settings: workerSettings,
    load: async () => (await import("./commands/worker-command.js")).runWorker,
  });
  visit({
    name: "pipeline",
    summary: "Run ImagePipeline: take requests and pass them to workers",
    settings: pipelineSettings,
    load: async () => (await import("./commands/pipeline-command.js")).runPipeline,
  });
  visit({
    name: "collector",
    summary: "Run a small OTLP collector that keeps the newest traces in memory",
    settings: collectorSettings,
    load: async () => (await import("./commands/collector-command.js")).runCollector,
  });
  visit({
    name: "generate",
    summary: "Ask a running pipeline for one picture",
    settings: generateSettings,
    argument: promptArgument,
    load: async () => (await import("./commands/generate-command.js")).runGenerate,
  });
  visit({
    name: "trace",
    summary: "Print a trace that the local collector has",
    settings: traceSettings,
    argument: { name: "id", help: "id of the trace: 32 hexadecimal digits" },
    load: async () => (await import("./commands/trace-command.js")).runTrace,
  });
  visit({
    name: "traces",
    summary: "List the newest traces of the local collector",
    settings: tracesSettings,
    load: async () => (await import("./commands/traces-command.js")).runTraces,
  });
  visit({
    name: "apps",
    summary: "List the worker apps with their health, and with a pipeline's figures",
    settings: appsSettings,
    load: async () => (await import("./commands/apps-command.js")).runApps,
  });
  visit({
    name: "doctor",
    summary: "Say what this machine can do, and what to do about what is wrong",
    settings: doctorSettings,
    load: async () => (await import("./doctor/doctor-command.js")).runDoctor,
  });
  visit({
    name: "keys",
    summary: "Make a key for a caller",
    settings: keysSettings,
    load: async () => (await import("./commands/keys-command.js")).runKeys,
  });
}

/** Loads a command's code ahead of its run. */
export async function loadCommand(name: string): Promise<void> {
  const loading: Promise<unknown>[] = [];
  visitCommands((command) => {
    if (command.name === name) {
      loading.push(command.load());
    }
  });
  await Promise.all(loading);
}
