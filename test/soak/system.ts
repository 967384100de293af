import assert from "node:assert/strict";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { build } from "esbuild";
import { JobService } from "../../src/gen/throughline/v1/job_pb.js";
import { ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { type RunningCommand, startCommand } from "../cli/support/run-command.js";
import { startWorkerProcess, type WorkerProcess, workerProgram } from "../durability/worker-process.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { startPostgres } from "../support/postgres.js";
import { steadyPort } from "../support/steady-port.js";
import { createResources } from "./resources.js";

const app = "local/text-to-image-worker";
/** Workers that the pipelines know at the start. */
export const workerCount = 4;
/** Images of calls that the pipelines keep: reached in the warm-up, so that their index has its full size. */
const imageBytes = 200_000;

export type System = Awaited<ReturnType<typeof startSystem>>;

/** A worker's slot: an address, and the process that listens there at the moment. */
interface Slot {
  readonly port: number;
  process: WorkerProcess;
}

/** Two pipelines, four workers, PostgreSQL and a collector, each a process of its own on loopback. All end with the test. */
export async function startSystem(t: TestContext, stepMs: number) {
  const postgres = await startPostgres();
  t.after(() => postgres.remove());
  const database = await postgres.createDatabase();
  const [folder, images] = [await temporaryFolder(), await temporaryFolder()];
  const collectorPort = await steadyPort();
  const resources = createResources(() => [postgres.pid]);
  t.after(() => resources.close());
  // Workers end with this process; the others are in groups of their own.
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      resources.killAll([postgres.pid]);
      process.exit(1);
    });
  }
  const telemetry = {
    ...resources.environment,
    ENABLE_TRACING: "true",
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collectorPort}`,
    OTEL_METRICS_EXPORTER: "none",
  };

  const startCollector = async (): Promise<RunningCommand> => {
    const command = startCommand(t, ["collector", "--port", `${collectorPort}`, "--log-level", "error"]);
    await command.waitFor(/is ready at/);
    resources.watch("collector", command.pid);
    return command;
  };
  let collector = await startCollector();

  // Workers start often, and the compiler of TypeScript would take more processor time than the rest of the soak.
  const program = fileURLToPath(new URL("../../node_modules/.cache/throughline/soak-worker.mjs", import.meta.url));
  await build({
    entryPoints: [workerProgram],
    outfile: program,
    bundle: true,
    packages: "external",
    platform: "node",
    format: "esm",
    target: "node20",
    logLevel: "warning",
  });
  /** All workers that ever ran, for what they generated. */
  const workers: WorkerProcess[] = [];
  const startWorker = async (name: string, port: number): Promise<WorkerProcess> => {
    const worker = await startWorkerProcess({ port, stepMs, program, environment: telemetry });
    workers.push(worker);
    resources.watch(name, worker.pid);
    return worker;
  };
  t.after(() => Promise.all(workers.map((worker) => worker.kill())));
  const slots: Slot[] = [];
  for (let index = 0; index < workerCount; index++) {
    const port = await steadyPort();
    slots.push({ port, process: await startWorker(`worker ${index + 1}`, port) });
  }

  const appsFile = join(folder, "apps.json");
  /** As an operator does: whole, by renaming. */
  const writeApps = async (ports: readonly number[]): Promise<void> => {
    const target = `ipv4:${ports.map((port) => `127.0.0.1:${port}`).join(",")}`;
    await writeFile(`${appsFile}.new`, JSON.stringify({ apps: { [app]: { target } } }));
    await rename(`${appsFile}.new`, appsFile);
  };
  const ports = slots.map(({ port }) => port);
  await writeApps(ports);

  const startPipeline = async (name: string) => {
    const flags = [
      ...["--port", "0", "--log-level", "warn", "--jobs", database, "--images", images],
      ...["--image-max-bytes", `${imageBytes}`, "--apps", appsFile],
    ];
    const command = startCommand(t, ["pipeline", ...flags], telemetry);
    const [, url = ""] = await command.waitFor(/is ready at (\S+)/);
    resources.watch(name, command.pid);
    const transport = createGrpcTransport({ baseUrl: url });
    return {
      name,
      command,
      url,
      calls: createClient(ImagePipelineService, transport),
      jobs: createClient(JobService, transport),
    };
  };
  const pipelines = [await startPipeline("pipeline 1"), await startPipeline("pipeline 2")];

  const slot = (index: number): Slot => slots[index] ?? assert.fail(`no worker ${index + 1}`);
  let added: WorkerProcess | undefined;
  return {
    pipelines,
    resources,
    images,
    /** Processes that run from the start to the end. */
    steady: [...pipelines.map(({ name }) => name), `worker ${workerCount}`],
    query: (sql: string) => postgres.query(database, sql),
    /** What the database has done so far. */
    async databaseWork() {
      const [row = ""] = await postgres.query(
        database,
        "select sum(xact_commit + xact_rollback), pg_current_wal_lsn() - '0/0' from pg_stat_database",
      );
      const [transactions = 0, logBytes = 0] = row.split("|").map(Number);
      return { transactions, logBytes };
    },
    /** How often the engine ran to the end of an image, by prompt. */
    generations(): ReadonlyMap<string, number> {
      const counts = new Map<string, number>();
      for (const prompt of workers.flatMap(({ generated }) => generated)) {
        counts.set(prompt, (counts.get(prompt) ?? 0) + 1);
      }
      return counts;
    },
    /** In the middle of an image: of a call, a stream or a job. Returns the time of the signal, by `performance.now()`. */
    async killWorker(index: number): Promise<number> {
      await slot(index).process.beginning();
      const at = performance.now();
      await slot(index).process.kill();
      return at;
    },
    async drainWorker(index: number) {
      assert.equal(await slot(index).process.drain(), 0);
    },
    async restartWorker(index: number) {
      slot(index).process = await startWorker(`worker ${index + 1}`, slot(index).port);
    },
    async addWorker() {
      const port = await steadyPort();
      added = await startWorker("added worker", port);
      await writeApps([...ports, port]);
    },
    /** Takes the added worker off the list. It goes on until nobody calls it any more. */
    forgetAddedWorker: () => writeApps(ports),
    async drainAddedWorker() {
      assert.equal(await added?.drain(), 0);
    },
    async restartDatabase() {
      await postgres.end("SIGINT");
      await postgres.start();
    },
    async stopCollector() {
      collector.kill("SIGTERM");
      await collector.ended;
    },
    async restartCollector() {
      collector = await startCollector();
    },
    /** Ends the pipelines in order. */
    async stopPipelines() {
      for (const { command } of pipelines) {
        command.kill("SIGTERM");
        assert.deepEqual(await command.ended, { code: 0, signal: null });
      }
    },
  };
}
