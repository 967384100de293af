import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { createWorkerMetrics } from "../../src/worker/worker-metrics.js";
import { testMeter } from "../support/telemetry.js";

const settings = {
  width: 64,
  height: 64,
  steps: 4,
  guidanceScale: 1,
  seed: 1,
  scheduler: "ddim",
  clipSkip: 0,
  guidanceRescale: 0,
} as const;

/** A worker's metrics, and what they come to: `name{attributes}` with its value; a histogram's is how many values it has. */
function setUp(t: TestContext) {
  const collected = testMeter(t);
  const { meter } = collected;
  let waiting = 0;
  const metrics = createWorkerMetrics({ meter, queue: { limit: 16, length: () => waiting } });
  const read = async () => {
    const points = (await collected.read()).filter(({ name }) => name.startsWith("throughline."));
    return Object.fromEntries(
      points.map(({ name, attributes, value }) => [
        `${name.slice("throughline.".length)}{${Object.values(attributes).join()}}`,
        typeof value === "number" ? value : value.count,
      ]),
    );
  };
  const generate = () => metrics.generation("cpu");
  return { metrics, generate, read, setWaiting: (count: number) => (waiting = count), points: collected.read };
}

const idle = {
  "engine.restarts{}": 0,
  "engine.state{starting}": 1,
  "engine.state{ready}": 0,
  "engine.state{restarting}": 0,
  "queue.length{}": 0,
  "queue.limit{}": 16,
};

test("idle worker exports zeros", async (t) => {
  assert.deepEqual(await setUp(t).read(), idle);
});

test("generated image counts with its steps, stages and prompts", async (t) => {
  const { generate, read, points } = setUp(t);
  const generation = generate();
  generation.event({ kind: "settings", settings });
  generation.event({ kind: "stage", stage: "text-encoding" });
  generation.event({ kind: "stage", stage: "denoising" });
  for (let step = 1; step <= 4; step++) {
    generation.event({ kind: "step", step, totalSteps: 4 });
  }
  generation.event({ kind: "stage", stage: "vae-decode" });
  generation.image({ promptCache: { hits: 1, misses: 2 } });
  generation.end();
  assert.deepEqual(await read(), {
    ...idle,
    "diffusion.steps{ddim,cpu}": 4,
    "images{ddim,cpu}": 1,
    "prompt_cache.lookups{hit}": 1,
    "prompt_cache.lookups{miss}": 2,
    "stage.duration{text-encoding}": 1,
    "stage.duration{denoising}": 1,
    "stage.duration{vae-decode}": 1,
  });
  const units = new Map((await points()).map(({ name, unit }) => [name, unit]));
  assert.equal(units.get("throughline.stage.duration"), "s");
  assert.equal(units.get("throughline.diffusion.steps"), "{step}");
});

test("cancelled generation counts its steps and their time, and no image", async (t) => {
  const { generate, read } = setUp(t);
  const generation = generate();
  generation.event({ kind: "settings", settings });
  generation.event({ kind: "stage", stage: "denoising" });
  generation.event({ kind: "step", step: 1, totalSteps: 4 });
  generation.end();
  const rejected = generate();
  rejected.end();
  assert.deepEqual(await read(), { ...idle, "diffusion.steps{ddim,cpu}": 1, "stage.duration{denoising}": 1 });
});

test("queue metrics are waits and the length at the time of reading", async (t) => {
  const { metrics, read, setWaiting, points } = setUp(t);
  metrics.waited(1500);
  setWaiting(3);
  assert.deepEqual(await read(), { ...idle, "queue.length{}": 3, "queue.wait.duration{}": 1 });
  const wait = (await points()).find(({ name }) => name === "throughline.queue.wait.duration");
  assert.deepEqual(wait?.value, { count: 1, sum: 1.5 });
});

test("engine restart counts once, however often its state is reported", async (t) => {
  const { metrics, read } = setUp(t);
  metrics.engineIs("ready");
  metrics.engineIs("restarting");
  metrics.engineIs("restarting");
  const away = await read();
  assert.deepEqual([away["engine.state{restarting}"], away["engine.state{ready}"]], [1, 0]);
  metrics.engineIs("ready");
  assert.deepEqual(await read(), {
    ...idle,
    "engine.restarts{}": 1,
    "engine.state{starting}": 0,
    "engine.state{ready}": 1,
  });
});
