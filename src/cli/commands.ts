import { collectorSettings } from "./collector-settings.js";
import type { Command } from "./command.js";
import { demoSettings } from "./demo-settings.js";
import { devSettings } from "./dev-settings.js";
import { generateSettings } from "./generate-settings.js";
import { pipelineSettings } from "./pipeline-settings.js";
import type { SettingGroup } from "./setting.js";
import { workerSettings } from "./worker-settings.js";

/** Calls back with each command, its own type of settings kept. */
export type CommandVisitor = <Group extends SettingGroup>(command: Command<Group>) => void;

/** All commands, in the order of the help. What a command runs is loaded when it runs: `--help` should not wait for a model's runtime. */
export function visitCommands(visit: CommandVisitor): void {
  visit({
    name: "demo",
    summary: "Paint one picture with a worker, a pipeline and a collector of its own, and show the trace",
    settings: demoSettings,
    prompt: { default: "a red heart" },
    run: async (settings, context, prompt) => (await import("./demo-command.js")).runDemo(settings, context, prompt),
  });
  visit({
    name: "dev",
    summary: "Keep a worker, a pipeline and a collector running on this machine",
    settings: devSettings,
    run: async (settings, context) => (await import("./dev-command.js")).runDev(settings, context),
  });
  visit({
    name: "worker",
    summary: "Run TextToImageWorker: load a model and paint",
    settings: workerSettings,
    run: async (settings, context) => (await import("./worker-command.js")).runWorker(settings, context),
  });
  visit({
    name: "pipeline",
    summary: "Run ImagePipeline: take requests and pass them to workers",
    settings: pipelineSettings,
    run: async (settings, context) => (await import("./pipeline-command.js")).runPipeline(settings, context),
  });
  visit({
    name: "collector",
    summary: "Run a small OTLP collector that keeps the newest traces in memory",
    settings: collectorSettings,
    run: async (settings, context) => (await import("./collector-command.js")).runCollector(settings, context),
  });
  visit({
    name: "generate",
    summary: "Ask a running pipeline for one picture",
    settings: generateSettings,
    prompt: {},
    run: async (settings, context, prompt) =>
      (await import("./generate-command.js")).runGenerate(settings, context, prompt),
  });
}
