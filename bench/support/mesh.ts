import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { createPipelineClient, createWorkerClient } from "../../src/client/client.js";

export interface BenchMesh {
  readonly worker: ChildProcess;
  readonly pipeline: ChildProcess;
  readonly pipelineUrl: string;
  readonly workerUrl: string;
  readonly client: ReturnType<typeof createPipelineClient>;
  stop(): Promise<void>;
}

export interface BenchMeshOptions {
  readonly threads: number;
  /** Modules that each service loads first. */
  readonly preload?: readonly string[];
  readonly environment?: (service: "worker" | "pipeline") => Readonly<Record<string, string>>;
}

/** A worker with the embedded model, and a pipeline, as processes of this machine. */
export async function startBenchMesh(options: BenchMeshOptions): Promise<BenchMesh> {
  const [workerPort, pipelinePort] = [await freePort(), await freePort()];
  const entry = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
  const start = (service: "worker" | "pipeline", flags: readonly string[]) =>
    spawn(
      process.execPath,
      [...["tsx", ...(options.preload ?? [])].flatMap((module) => ["--import", module]), entry, service, ...flags],
      {
        stdio: ["ignore", "ignore", "inherit"],
        env: { ...process.env, ...options.environment?.(service) },
      },
    );
  const quiet = ["--log-level", "error", "--grace", "0"];
  const worker = start("worker", ["--port", `${workerPort}`, "--threads", `${options.threads}`, ...quiet]);
  const route = `local/text-to-image-worker=127.0.0.1:${workerPort}`;
  const pipeline = start("pipeline", ["--port", `${pipelinePort}`, "--worker", route, ...quiet]);
  const urls = { workerUrl: `http://127.0.0.1:${workerPort}`, pipelineUrl: `http://127.0.0.1:${pipelinePort}` };
  const client = createPipelineClient({ baseUrl: urls.pipelineUrl });
  await untilGenerated(createWorkerClient({ baseUrl: urls.workerUrl }));
  await untilGenerated(client);
  return {
    worker,
    pipeline,
    client,
    ...urls,
    async stop() {
      const ended = [worker, pipeline].map((child) => (child.exitCode === null ? once(child, "exit") : undefined));
      worker.kill("SIGTERM");
      pipeline.kill("SIGTERM");
      await Promise.all(ended);
    },
  };
}

/** Asks for an image until there is one. */
async function untilGenerated(client: {
  generate?(request: object): Promise<unknown>;
  infer?(request: object): Promise<unknown>;
}): Promise<void> {
  const request = { prompt: "a red heart", options: { steps: 1 } };
  for (const end = performance.now() + 120_000; ; ) {
    try {
      await (client.generate?.(request) ?? client.infer?.(request));
      return;
    } catch (error) {
      if (performance.now() > end) {
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") {
    throw new Error("no port");
  }
  return address.port;
}
