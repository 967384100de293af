import { mkdtemp, readFile, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import * as z from "zod";
import { Health } from "../../src/gen/grpc/health/v1/health_pb.js";
import { Stage } from "../../src/gen/throughline/v1/image_pb.js";
import { type Figure, median, quantile, writeReport } from "../support/figures.js";
import { startBenchMesh } from "../support/mesh.js";

/* npm run bench -- event-loop: what the services' event loops are held up while the model runs on every core, and what they do meanwhile. */

const loadMs = 40_000;
const inFlight = 4;
const delays = z.object({ p50: z.number(), p99: z.number(), max: z.number(), count: z.number() });

const folder = await mkdtemp(join(tmpdir(), "bench-"));
const fileOf = (service: string) => join(folder, `${service}.json`);
const mesh = await startBenchMesh({
  threads: availableParallelism(),
  preload: [new URL("./delay-monitor.ts", import.meta.url).href],
  environment: (service) => ({ BENCH_DELAY_FILE: fileOf(service) }),
});
mesh.worker.kill("SIGUSR2");
mesh.pipeline.kill("SIGUSR2");

const end = performance.now() + loadMs;
const busy = () => performance.now() < end;
let generated = 0;
let seed = 0;

/** Told when a generation of these begins. */
let onBegin = () => {};

async function generateOn(): Promise<void> {
  while (busy()) {
    const request = { prompt: "a red heart", options: { seed: seed++, previewInterval: 2 } };
    for await (const { event } of mesh.client.generateStream({ request })) {
      if (event.case === "progress" && event.value.stage === Stage.TEXT_ENCODING) {
        onBegin();
      }
    }
    generated++;
  }
}

/** How long health answers take, of the worker, which generates. */
async function askForHealth(): Promise<number[]> {
  const transport = createConnectTransport({ baseUrl: mesh.workerUrl, httpVersion: "2" });
  const health = createClient(Health, transport);
  const times: number[] = [];
  while (busy()) {
    const started = performance.now();
    await health.check({ service: "" });
    times.push(performance.now() - started);
    await delay(100);
  }
  return times;
}

/** How long it takes from a cancel, in the middle of a generation, until the next request is generated. */
async function cancelGenerations(): Promise<number[]> {
  const times: number[] = [];
  while (busy()) {
    const controller = new AbortController();
    const request = { prompt: "a red heart", options: { seed: seed++, numInferenceSteps: 150 } };
    try {
      for await (const { event } of mesh.client.generateStream({ request }, { signal: controller.signal })) {
        if (event.case === "progress" && event.value.step === 3) {
          const begun = new Promise<void>((resolve) => {
            onBegin = resolve;
          });
          const cancelledAt = performance.now();
          controller.abort();
          await begun;
          times.push(performance.now() - cancelledAt);
        }
      }
    } catch (error) {
      if (!controller.signal.aborted) {
        throw error;
      }
    }
  }
  return times;
}

const generation = Array.from({ length: inFlight }, generateOn);
const [healthMs, cancelMs] = await Promise.all([askForHealth(), cancelGenerations()]);
await Promise.all(generation);
await mesh.stop();

const figures: Figure[] = [];
for (const service of ["worker", "pipeline"]) {
  const { p50, p99, max } = delays.parse(JSON.parse(await readFile(fileOf(service), "utf8")));
  const name = `event-loop delay of the ${service}`;
  figures.push(
    { name: `${name}, p50`, value: p50, unit: "ms" },
    {
      name: `${name}, p99`,
      value: p99,
      unit: "ms",
      goal: "≤ 20 ms",
      note: `${generated} images in ${loadMs / 1000} s`,
    },
    { name: `${name}, maximum`, value: max, unit: "ms" },
  );
}
await rm(folder, { recursive: true });
figures.push(
  { name: "health check, p50", value: median(healthMs), unit: "ms", note: `${healthMs.length} checks` },
  { name: "health check, p99", value: quantile(healthMs, 0.99), unit: "ms" },
  {
    name: "time from a cancel to the start of the next generation, seen by clients, median",
    value: median(cancelMs),
    unit: "ms",
    note: `${cancelMs.length} cancels`,
  },
);
await writeReport("event-loop", { title: `The services' event loops, ${inFlight} requests in flight`, figures });
