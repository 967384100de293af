import * as http from "node:http";
import * as https from "node:https";
import * as z from "zod";
import { createLogger } from "../../app/observe.js";
import type { Model } from "../../gen/throughline/v1/image_pb.js";
import { TextToImageWorkerService } from "../../gen/throughline/v1/worker_pb.js";
import { type AppStatus, createAppConnections } from "../../mesh/directory/app-connections.js";
import { createAppConnector } from "../../mesh/directory/app-connector.js";
import type { WorkerStatus } from "../../mesh/grpc/connection.js";
import { printable } from "../../studio/trace-text.js";
import type { CommandContext } from "../command.js";
import { CliError, exitCodes, messageOf } from "../errors.js";
import type { appsOptions } from "../options/command-options.js";
import type { OptionValues } from "../options/option.js";
import { directoryOf } from "../services/directory.js";
import { type Access, accessOf, workerSecurityOf } from "../services/security.js";
import { jsonLine } from "../terminal/terminal.js";
import { type AppModels, modelJson, modelsOfPipeline, modelsOfWorkers } from "./app-models.js";

type AppsSettings = OptionValues<typeof appsOptions>;

/** Lists the apps of a directory with their models and their workers' health, and with a running pipeline's figures if one is named. */
export async function runApps(settings: AppsSettings, context: CommandContext): Promise<number> {
  const { pipeline, json } = settings;
  const { stdout, interrupt } = context;
  const { apps, models } =
    pipeline === undefined
      ? await askWorkers(settings, context)
      : await askPipeline({ pipeline, access: accessOf(settings), interrupt });
  stdout.write(
    json
      ? jsonLine({ apps: apps.map((app) => ({ ...app, model: modelJson(models.get(app.appId)) })) })
      : renderApps(apps, models),
  );
  return exitCodes.done;
}

interface Answer {
  readonly apps: readonly ListedApp[];
  readonly models: AppModels;
}

async function askPipeline(query: AppsQuery): Promise<Answer> {
  const [apps, models] = await Promise.all([fetchApps(query), modelsOfPipeline(query)]);
  return { apps, models };
}

/** The apps with their workers' health only: a worker reports its load only to its clients. */
async function askWorkers(settings: AppsSettings, context: CommandContext): Promise<Answer> {
  const logger = createLogger({ service: "apps", level: "warn", write: (line) => void context.stderr.write(line) });
  const connections = createAppConnections({
    directory: directoryOf(settings, logger),
    connect: createAppConnector({ security: workerSecurityOf(settings, logger), onRejected() {} }),
  });
  try {
    const apps = await connections.describe(TextToImageWorkerService.typeName);
    return {
      apps: apps.map((app) => ({ ...app, workers: app.workers.map(({ address, health }) => ({ address, health })) })),
      models: await modelsOfWorkers(connections, apps),
    };
  } finally {
    connections.close();
  }
}

const figure = z.number().nonnegative();

/** Apps in the JSON of a pipeline. */
export const listedApps: z.ZodType<readonly ListedApp[]> = z.array(
  z.object({
    appId: z.string(),
    target: z.string(),
    isDefault: z.boolean(),
    workers: z.array(
      z.object({
        address: z.string(),
        health: z.enum(["connecting", "serving", "not-serving", "down"]),
        inFlight: figure,
        others: figure,
        serviceMs: figure.nullable(),
        expectedWaitMs: figure.nullable(),
        rejectsForMs: figure,
        ejected: z.boolean(),
        version: z.string().optional(),
      }),
    ),
  }),
);

const appsJson = z.object({ apps: listedApps });

/** The pipeline and its credentials. */
export interface AppsQuery {
  /** Base URL of the pipeline. */
  readonly pipeline: string;
  readonly access: Access;
  readonly interrupt: AbortSignal;
}

const timeoutMs = 10_000;
/** A hundred thousand replicas need less. */
const maxAnswerBytes = 33_554_432;

/**
 * Returns the status of a pipeline's apps.
 *
 * @throws CliError with the wrong answer, or the reason of `interrupt`.
 */
export async function fetchApps({ pipeline, access, interrupt }: AppsQuery): Promise<readonly ListedApp[]> {
  return (await fetchJson(appsRoute, appsJson, { pipeline, access, interrupt })).apps;
}

/** A route of a pipeline that answers with JSON. */
export interface JsonRoute {
  readonly path: string;
  /** Completes "cannot": `list the apps of`. */
  readonly what: string;
  /** Why it is missing. */
  readonly missing: string;
}

const appsRoute: JsonRoute = {
  path: "/apps",
  what: "list the apps of",
  missing: "it does not list its apps; start it with --show-apps",
};

/**
 * Reads a route of a pipeline.
 *
 * @throws CliError with the wrong answer, or the reason of `interrupt`.
 */
export async function fetchJson<T>(
  { path, what, missing }: JsonRoute,
  schema: z.ZodType<T>,
  { pipeline, access, interrupt }: AppsQuery,
): Promise<T> {
  try {
    const signal = AbortSignal.any([interrupt, AbortSignal.timeout(timeoutMs)]);
    const { status, body } = await get(new URL(path, pipeline), access, signal);
    if (status === 404) {
      throw new Error(missing);
    }
    if (status !== 200) {
      throw new Error(`it answered ${status}: ${body}`);
    }
    return schema.parse(JSON.parse(body));
  } catch (error) {
    interrupt.throwIfAborted();
    const reason =
      error instanceof z.ZodError || error instanceof SyntaxError ? "its answer is not a pipeline's" : error;
    const message = messageOf(reason);
    throw new CliError(`cannot ${what} ${pipeline}: ${printable(message, 300)}`, { cause: error });
  }
}

/** Not fetch: Node's takes no certificate. */
async function get(url: URL, { tls, authorization }: Access, signal: AbortSignal) {
  const headers = authorization === undefined ? {} : { authorization };
  const options = { headers, signal, agent: false } as const;
  const request = url.protocol === "https:" ? https.get(url, { ...options, ...tls }) : http.get(url, options);
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    request.once("response", resolve).once("error", reject);
  });
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > maxAnswerBytes) {
      throw new Error(`its answer is larger than the limit of ${maxAnswerBytes} bytes`);
    }
  }
  return { status: response.statusCode, body: Buffer.concat(chunks).toString() };
}

/** A worker with its health and, from a pipeline, its load. */
export type ListedWorker = Pick<WorkerStatus, "address" | "health"> & Partial<WorkerStatus>;

/** An app of the list. */
export interface ListedApp extends Omit<AppStatus, "workers"> {
  readonly workers: readonly ListedWorker[];
}

const healthLabel: Record<WorkerStatus["health"], string> = {
  connecting: "no answer yet",
  serving: "serving",
  "not-serving": "draining or not ready",
  down: "down",
};

const heads = ["APP", "MODEL", "WORKER", "HEALTH", "IN FLIGHT", "OF OTHERS", "A CALL", "WAIT", "VERSION"];

/** The apps as a table for a terminal, one line a worker; without figures if there are none, and without versions if no worker states one. */
export function renderApps(apps: readonly ListedApp[], models: AppModels): string {
  const hasFigures = apps.some(({ workers }) => workers.some(({ inFlight }) => inFlight !== undefined));
  const hasVersions = apps.some(({ workers }) => workers.some(({ version = "" }) => version !== ""));
  const columns = hasFigures ? heads.length - (hasVersions ? 0 : 1) : 4;
  const rows = [heads, ...apps.flatMap((app) => rowsOf(app, models.get(app.appId)))].map((row) =>
    row.slice(0, columns),
  );
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows
    .map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "))
    .map((line) => `${line.trimEnd()}\n`)
    .concat(loraLines(apps, models))
    .join("");
}

/** Most LoRAs that are named of an app. */
const maxListedLoras = 20;

/** One line for each app with LoRAs, after an empty one. */
function loraLines(apps: readonly ListedApp[], models: AppModels): string[] {
  const lines = apps.flatMap(({ appId }) => {
    const loras = models.get(appId)?.loras ?? [];
    const names = loras.slice(0, maxListedLoras).map((name) => printable(name));
    const more = loras.length > names.length ? ` and ${loras.length - names.length} more` : "";
    return names.length === 0 ? [] : [`LoRAs of ${printable(appId)}: ${names.join(", ")}${more}\n`];
  });
  return lines.length === 0 ? [] : ["\n", ...lines];
}

function rowsOf({ appId, target, isDefault, workers }: ListedApp, model: Model | undefined): string[][] {
  const app = [`${printable(appId)}${isDefault ? " (default)" : ""}`, printable(model?.name || "?")];
  if (workers.length === 0) {
    return [[...app, printable(target), "no address known"]];
  }
  return workers.map((worker) => [...app, printable(worker.address), healthOf(worker), ...figuresOf(worker)]);
}

function healthOf({ health, ejected, rejectsForMs = 0 }: ListedWorker): string {
  const full = rejectsForMs > 0 ? `, full for ${seconds(rejectsForMs)}` : "";
  return `${healthLabel[health]}${ejected ? ", left out" : ""}${full}`;
}

function figuresOf({ inFlight, others, serviceMs, expectedWaitMs, version = "" }: ListedWorker): string[] {
  return [
    String(inFlight ?? ""),
    String(others ?? ""),
    seconds(serviceMs),
    seconds(expectedWaitMs),
    printable(version),
  ];
}

function seconds(ms: number | null | undefined): string {
  return ms === null || ms === undefined ? "?" : `${(ms / 1000).toFixed(1)} s`;
}
