import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { ConnectError } from "@connectrpc/connect";
import { pino } from "pino";
import { createPipelineClient } from "../../../src/client/client.js";
import { createAppDirectory } from "../../../src/mesh/directory/app-directory.js";
import { grpcStatusName } from "../../../src/otelconnect/errors.js";
import { createPipelineApp, type PipelineAppOptions, pipelineName } from "../../../src/pipeline/pipeline-app.js";
import { createSpanCollector } from "../../../src/trace/telemetry/collectors.js";
import { createTelemetry, type Telemetry } from "../../../src/trace/telemetry/telemetry.js";
import { openStockTransport } from "../../support/stock-transport.js";
import { attemptsOf, type Seen } from "./seen.js";
import type { WorkerProcess } from "./worker-process.js";

/** App id of all workers. */
export const appId = "local/text-to-image-worker";

/** Options of {@link startPipeline}. */
export interface StartPipelineOptions extends Pick<PipelineAppOptions, "store" | "workerSecurity"> {
  /** The workers, in the order in which they are asked. */
  readonly workers: readonly { readonly host: string; readonly port: number }[];
  /** Source of the workers' spans. @default none */
  readonly processes?: readonly WorkerProcess[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Receives each line of its log. */
  readonly onLog?: (line: string) => void;
}

/** A request for an image of noise. */
export interface Generation {
  /** @default 64 */
  readonly side?: number;
  readonly timeoutMs?: number;
  /** Makes the call a stream; called at its first event. @default unary */
  readonly onFirstEvent?: () => void;
}

/** A pipeline that asks the first worker as long as it can, with the defaults of all other policies, and a client of it. */
export interface Pipeline {
  readonly telemetry: Telemetry;
  /** Asks for an image and waits for what comes of it. Never rejects. */
  generate(generation?: Generation): Promise<Seen>;
  stop(): Promise<void>;
}

export async function startPipeline(options: StartPipelineOptions): Promise<Pipeline> {
  const { workers, processes = [], environment = {}, onLog = () => {} } = options;
  const logger = pino({}, { write: onLog });
  const collector = createSpanCollector();
  const telemetry = createTelemetry({
    serviceName: pipelineName,
    environment,
    log: logger,
    exporters: [collector.exporter],
  });
  // gRPC knows no list of names, and needs none for one.
  const addresses = workers.map(({ host, port }) => `${host}:${port}`).join(",");
  const target = workers[0]?.host === "localhost" ? addresses : `ipv4:${addresses}`;
  const app = await createPipelineApp({
    directory: createAppDirectory({
      apps: { [appId]: { target, policies: { loadBalancing: "pick_first" } } },
      defaultApp: appId,
    }),
    store: options.store,
    workerSecurity: options.workerSecurity,
    trustTraceparent: true,
    telemetry,
    logger,
  }).serve({ port: 0 });
  const { transport, close } = openStockTransport(app.port);
  const client = createPipelineClient({ transport });

  /** The spans of a trace; of one that ended well with those of the worker, where somebody tells of them. */
  async function spansOf(traceId: string, isGenerated: boolean) {
    const signal = AbortSignal.timeout(30_000);
    const own = await collector.waitFor(
      (spans) => spans.some((span) => span.traceId === traceId && span.name === pipelineName),
      signal,
    );
    const ofWorkers = () => processes.flatMap(({ spans }) => spans).filter((span) => span.traceId === traceId);
    while (isGenerated && processes.length > 0 && !ofWorkers().some(({ name, status }) => isEnd(name, status.code))) {
      await nextReport(processes, signal);
    }
    return [...own.filter((span) => span.traceId === traceId), ...ofWorkers()];
  }

  async function request(traceId: string, { side = 64, timeoutMs, onFirstEvent }: Generation): Promise<void> {
    const message = { prompt: "a red heart", options: { width: side, height: side } };
    const call = {
      headers: { traceparent: `00-${traceId}-${randomBytes(8).toString("hex")}-01` },
      ...(timeoutMs !== undefined && { timeoutMs }),
    };
    if (onFirstEvent === undefined) {
      await client.generate(message, call);
    } else {
      for await (const _ of client.generateStream({ request: message }, call)) {
        onFirstEvent();
      }
    }
  }

  return {
    telemetry,
    async generate(generation = {}) {
      const traceId = randomBytes(16).toString("hex");
      const startedAt = performance.now();
      const error = await request(traceId, generation).then(
        () => undefined,
        (reason: unknown) => ConnectError.from(reason),
      );
      const endedAt = performance.now();
      const spans = await spansOf(traceId, error === undefined);
      return {
        code: error === undefined ? "OK" : grpcStatusName(error.code),
        words: error?.rawMessage ?? "",
        endedAt,
        tookMs: endedAt - startedAt,
        attempts: attemptsOf(spans),
        spans,
      };
    },
    async stop() {
      close();
      await app.stop({ graceMs: 0 });
    },
  };
}

/** `inference` is the last of a worker's spans to end. */
function isEnd(name: string, status: string): boolean {
  return name === "inference" && status !== "ERROR";
}

async function nextReport(processes: readonly WorkerProcess[], signal: AbortSignal): Promise<void> {
  const done = new AbortController();
  const either = AbortSignal.any([signal, done.signal]);
  await Promise.race(processes.map(({ reports }) => once(reports, "report", { signal: either }))).finally(() =>
    done.abort(),
  );
}
