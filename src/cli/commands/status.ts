import * as z from "zod";
import { printable } from "../../studio/trace-text.js";
import type { CommandContext } from "../command.js";
import { exitCodes } from "../errors.js";
import type { statusOptions } from "../options/command-options.js";
import type { OptionValues } from "../options/option.js";
import { accessOf } from "../services/security.js";
import { formatWait, jsonLine } from "../terminal/terminal.js";
import { type AppModels, modelJson, modelsOfPipeline } from "./app-models.js";
import { fetchJson, type JsonRoute, type ListedApp, listedApps, renderApps } from "./apps.js";

const count = z.number().nonnegative();

const statusJson = z.object({
  pipeline: z.object({
    version: z.string(),
    spans: z.object({ exported: count, lost: count, waiting: count }).nullable(),
    jobs: z.object({ waiting: count, running: count, oldestSeconds: count, deadWebhooks: count }).nullable(),
  }),
  apps: listedApps,
});

type Status = z.output<typeof statusJson>;

const route: JsonRoute = {
  path: "/status",
  what: "read the status of",
  missing: "it does not show its status; start it with --show-apps",
};

/** Shows a pipeline and its workers on one screen. */
export async function runStatus(
  settings: OptionValues<typeof statusOptions>,
  { stdout, interrupt }: CommandContext,
): Promise<number> {
  const { server, json } = settings;
  const query = { pipeline: server, access: accessOf(settings), interrupt };
  const [status, models] = await Promise.all([fetchJson(route, statusJson, query), modelsOfPipeline(query)]);
  const { apps } = status;
  stdout.write(
    json
      ? jsonLine({
          pipeline: { url: server, ...status.pipeline },
          apps: apps.map((app) => ({ ...app, model: modelJson(models.get(app.appId)) })),
        })
      : renderStatus(server, status, models),
  );
  return exitCodes.done;
}

/** The status for a terminal: the pipeline, its jobs and spans, a summary of the replicas, and a table with one line for each. */
export function renderStatus(url: string, { pipeline, apps }: Status, models: AppModels): string {
  const { version, jobs, spans } = pipeline;
  const lines = [
    ["pipeline", `${url}, version ${printable(version)}`],
    ["jobs", jobs === null ? "none: the pipeline has no --jobs" : describeJobs(jobs)],
    ["spans", spans === null ? "not exported" : describeSpans(spans)],
    ["replicas", describeReplicas(apps)],
    ["versions", describeVersions(apps)],
  ];
  const head = lines.map(([name = "", text]) => `${name.padEnd(10)}${text}\n`).join("");
  return `${head}\n${renderApps(apps, models)}`;
}

function describeJobs({
  waiting,
  running,
  oldestSeconds,
  deadWebhooks,
}: NonNullable<Status["pipeline"]["jobs"]>): string {
  const oldest = waiting > 0 ? `, the oldest for ${formatWait(oldestSeconds * 1000)}` : "";
  const dead =
    deadWebhooks > 0 ? `, ${number(deadWebhooks)} dead webhooks (\`throughline jobs redrive\` sends them again)` : "";
  return `${number(waiting)} waiting${oldest}, ${number(running)} running${dead}`;
}

function describeSpans({ exported, lost, waiting }: NonNullable<Status["pipeline"]["spans"]>): string {
  return `${number(exported)} exported, ${number(waiting)} waiting, ${number(lost)} lost`;
}

function describeReplicas(apps: readonly ListedApp[]): string {
  const workers = apps.flatMap((app) => app.workers);
  const serving = workers.filter(({ health, ejected }) => health === "serving" && ejected !== true).length;
  const inFlight = workers.reduce((sum, worker) => sum + (worker.inFlight ?? 0), 0);
  const without = apps.filter((app) => !app.workers.some(({ health }) => health === "serving"));
  const missing =
    without.length === 0 ? "" : `; no replica of ${without.map(({ appId }) => printable(appId)).join(", ")}`;
  return `${serving} of ${workers.length} serve ${number(inFlight)} calls of this pipeline${missing}`;
}

/** Only registered replicas state their version. */
function describeVersions(apps: readonly ListedApp[]): string {
  const counts = new Map<string, number>();
  for (const { version } of apps.flatMap((app) => app.workers)) {
    const name = version === undefined || version === "" ? "unknown" : printable(version);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const list = [...counts].sort(([a], [b]) => a.localeCompare(b)).map(([version, times]) => `${version} (${times})`);
  return list.length === 0 ? "no worker known" : `workers: ${list.join(", ")}`;
}

function number(value: number): string {
  return value.toLocaleString("en-US");
}
