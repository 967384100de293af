import { createServer, request as httpRequest } from "node:http";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { type RunningCommand, startCommand } from "../../cli/support/run-command.js";
import { makeSdxlFolder } from "../../fixtures/sdxl-folder.js";
import { listenOnLoopback } from "../../support/listen-on-loopback.js";
import { steadyPort } from "../../support/steady-port.js";

/** App ids of the mesh: a worker, and one without a process. */
export const apps = { worker: "local/text-to-image-worker", gone: "acme/gone" } as const;

/** What is exported, as it comes over the wire. */
export interface Exports {
  /** Bodies by the last part of their path: `traces`, `metrics`, `logs`. */
  readonly of: (signal: "traces" | "metrics" | "logs") => string;
}

/**
 * A collector, a worker and a pipeline as processes, with all that they can tell switched on: logs from `trace` on, spans of rpcs and
 * stages, all signals by OTLP, metrics for Prometheus too, and the studio. What they export passes through this process.
 *
 * @param folder takes the model, which has to stay as long as the mesh does.
 */
export async function startWatchedMesh(t: Pick<TestContext, "after">, folder: string) {
  // Slow enough to be met in the middle of an image of many steps; one of a single step is soon ready.
  const model = await makeSdxlFolder(join(folder, "model"), { unetWork: 6 });
  const collector = startCommand(t, ["collector", "--port", "0"]);
  const collectorUrl = await urlOf(collector);
  const tap = await startTap(t, collectorUrl);
  const environment = {
    OTEL_EXPORTER_OTLP_ENDPOINT: tap.url,
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
    OTEL_METRICS_EXPORTER: "otlp,prometheus",
    OTEL_EXPORTER_PROMETHEUS_PORT: "0",
    OTEL_LOGS_EXPORTER: "otlp",
    OTEL_BSP_SCHEDULE_DELAY: "100",
    OTEL_METRIC_EXPORT_INTERVAL: "1000",
    OTEL_METRIC_EXPORT_TIMEOUT: "1000",
    THROUGHLINE_RPC_SPANS: "true",
    THROUGHLINE_STAGE_SPANS: "true",
  };
  const worker = startCommand(
    t,
    [
      "worker",
      "--port",
      "0",
      "--model",
      model,
      "--device",
      "cpu",
      "--threads",
      "1",
      "--max-waiting",
      "0",
      "--grace",
      "0",
    ].concat(["--log-level", "trace"]),
    environment,
  );
  const workerUrl = await urlOf(worker);
  const directory = [
    ["--worker", `${apps.worker}=${new URL(workerUrl).host}`],
    ["--worker", `${apps.gone}=127.0.0.1:${await steadyPort()}`],
    ["--default-app", apps.worker, "--show-apps", "--studio", "--studio-collector", collectorUrl],
  ].flat();
  const pipeline = startCommand(
    t,
    ["pipeline", "--port", "0", "--grace", "0", "--log-level", "trace", ...directory],
    environment,
  );
  const pipelineUrl = await urlOf(pipeline);
  return {
    collector,
    worker,
    pipeline,
    collectorUrl,
    workerUrl,
    pipelineUrl,
    exports: tap,
    /** Kills the engine's process, and resolves when the next one is ready. */
    async replaceEngine() {
      const engines = [...worker.stderr.matchAll(/"pid":(\d+)[^\n]*"msg":"engine ready(?: again)?"/g)];
      process.kill(Number(engines.at(-1)?.[1]), "SIGKILL");
      await worker.waitFor(new RegExp(`(?:"msg":"engine ready again"[\\s\\S]*){${engines.length}}`));
    },
    /** What Prometheus finds, of both services. */
    async prometheus(): Promise<string> {
      const urls = [worker, pipeline].map(({ stderr }) => /"url":"(\S+?\/metrics)"/.exec(stderr)?.[1] ?? "");
      const texts = await Promise.all(urls.map(async (url) => (await fetch(url)).text()));
      return texts.join("\n");
    },
  };
}

const urlOf = async (service: RunningCommand): Promise<string> => (await service.waitFor(/is ready at (\S+)/))[1] ?? "";

/** Keeps what is exported, and passes spans on to a collector. */
async function startTap(
  t: Pick<TestContext, "after">,
  collectorUrl: string,
): Promise<Exports & { readonly url: string }> {
  const bodies = new Map<string, string[]>();
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray());
    const signal = request.url?.split("/").at(-1) ?? "";
    bodies.set(signal, [...(bodies.get(signal) ?? []), body.toString("latin1")]);
    if (signal !== "traces") {
      response.end();
      return;
    }
    const passed = httpRequest(new URL(request.url ?? "", collectorUrl), { method: "POST", headers: request.headers });
    passed.on("response", (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    passed.on("error", () => response.writeHead(503).end());
    passed.end(body);
  });
  return {
    url: (await listenOnLoopback(t, server)).url,
    of: (signal) => (bodies.get(signal) ?? []).join("\n"),
  };
}
