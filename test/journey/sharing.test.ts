import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { pino } from "pino";
import { createWorkerClient } from "../../src/client/client.js";
import { createCallerDirectory } from "../../src/mesh/access/caller-directory.js";
import { createCallerKey, hashCallerKey } from "../../src/mesh/access/caller-keys.js";
import { callerHeader } from "../../src/mesh/access/callers.js";
import { retryDelayMsOf } from "../../src/mesh/errors/errors.js";
import { createTestMesh, type TestMesh, type TestMeshOptions } from "../../src/testing/create-test-mesh.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createWorkerApp, workerName } from "../../src/worker/worker-app.js";
import { createHeldEngine } from "../support/held-engine.js";
import { openStockTransport } from "../support/stock-transport.js";
import { testTelemetry } from "../support/telemetry.js";

async function meshFor(t: TestContext, options: TestMeshOptions): Promise<TestMesh> {
  const mesh = await createTestMesh({ wire: "port", ...options });
  t.after(() => mesh.stop());
  return mesh;
}

/** Headers of a call that an app makes on behalf of a caller. */
const on = (digit: string) => ({ headers: { [callerHeader]: digit.repeat(32) } });

const rejection = (call: Promise<unknown>): Promise<ConnectError> =>
  call.then(
    () => assert.fail("the call was not rejected"),
    (error: unknown) => ConnectError.from(error),
  );

test("caller with one request is served before another caller's queued requests", async (t) => {
  const held = createHeldEngine();
  const mesh = await meshFor(t, { engine: held.engine, maxWaiting: 3 });
  const first = mesh.worker.infer({ prompt: "greedy 1" }, on("a"));
  await held.reached;
  const positions: number[] = [];
  let waiting = 0;
  let onQueued = () => {};
  const watch = async (name: string, key: string) => {
    for await (const { event } of mesh.worker.inferStream({ request: { prompt: name } }, on(key))) {
      if (event.case === "queued") {
        positions.push(event.value.position);
        waiting++;
        onQueued();
      }
    }
  };
  const untilWaiting = async (count: number) => {
    while (waiting < count) {
      await new Promise<void>((resolve) => {
        onQueued = resolve;
      });
    }
  };
  const calls = [watch("greedy 2", "a")];
  await untilWaiting(1);
  calls.push(watch("greedy 3", "a"));
  await untilWaiting(2);
  calls.push(watch("greedy 4", "a"));
  await untilWaiting(3);
  const displaced = rejection(calls[2] ?? assert.fail());
  calls.push(watch("modest", "b"));
  const error = await displaced;
  assert.equal(error.code, Code.ResourceExhausted);
  assert.notEqual(retryDelayMsOf(error), undefined);
  // The two waiting requests move one position back, and the new one is next.
  await untilWaiting(6);
  assert.deepEqual(positions.slice(0, 3), [0, 1, 2]);
  assert.deepEqual(positions.slice(3).sort(), [0, 1, 2]);
  held.release();
  await Promise.all([first, ...calls.filter((_, index) => index !== 2)]);
  assert.deepEqual(held.begun, ["greedy 1", "modest", "greedy 2", "greedy 3"]);
});

for (const mayNameCallers of [true, undefined]) {
  const what = mayNameCallers
    ? "may name its callers, and their requests are shared fairly"
    : "without mayNameCallers counts as one caller";
  test(`pipeline ${what} at a worker with authentication`, async (t) => {
    const key = createCallerKey();
    const pipeline = { name: "pipeline", keys: [hashCallerKey(key)], certificates: [], mayUse: () => true };
    const held = createHeldEngine();
    const app = createWorkerApp({
      startEngine: async () => held.engine,
      telemetry: testTelemetry(t, workerName),
      logger: pino({ level: "silent" }),
    });
    const current = createCallerDirectory([{ ...pipeline, mayNameCallers }]);
    const running = await app.serve({ port: 0, callers: { current, onChange() {}, close() {} } });
    const { transport, close } = openStockTransport(running.port);
    t.after(() => {
      close();
      return running.stop({ graceMs: 0 });
    });
    const worker = createWorkerClient({ transport });
    /** Resolves when the request waits, or is generated; `end` when it is generated. */
    const generate = async (prompt: string, caller: string) => {
      const headers = { ...on(caller).headers, authorization: `Bearer ${key}` };
      const events = worker.inferStream({ request: { prompt } }, { headers })[Symbol.asyncIterator]();
      await events.next();
      const end = async () => {
        while ((await events.next()).done !== true) {
          // Its end is what matters.
        }
      };
      return { end: end() };
    };
    const requests = [await generate("greedy 1", "a")];
    await held.reached;
    requests.push(await generate("greedy 2", "a"), await generate("modest", "b"));
    held.release();
    await Promise.all(requests.map(({ end }) => end));
    const fair = ["greedy 1", "modest", "greedy 2"];
    assert.deepEqual(held.begun, mayNameCallers ? fair : ["greedy 1", "greedy 2", "modest"]);
  });
}

test("pipeline forwards its caller's fairness key to the worker", async (t) => {
  const held = createHeldEngine();
  const mesh = await meshFor(t, { engine: held.engine, maxWaiting: 2 });
  const first = mesh.worker.infer({ prompt: "direct" });
  await held.reached;
  const open: Promise<unknown>[] = [first];
  for (const prompt of ["direct 2", "direct 3"]) {
    const call = mesh.worker.inferStream({ request: { prompt } })[Symbol.asyncIterator]();
    assert.equal((await call.next()).value?.event.case, "queued");
    open.push(call.next());
  }
  // This test calls both from one address, so the pipeline's caller is the same, and finds no place.
  assert.equal((await rejection(mesh.pipeline.generate({ prompt: "by pipeline" }))).code, Code.ResourceExhausted);
  held.release();
  await Promise.all(open);
});

test("request beyond the model's limits is rejected at once, also with a full queue or no engine", async (t) => {
  const { limits } = createFakeEngine().info;
  // The contract takes no side below 64 pixels, whatever the model could do.
  const narrow = { ...limits.sizes.width, step: 32, minimum: 32, maximum: 256 };
  const held = createHeldEngine(2, { ...limits, sizes: { ...limits.sizes, width: narrow } });
  const mesh = await meshFor(t, { engine: held.engine, maxWaiting: 0 });
  const wide = { prompt: "b", options: { width: 512 } };
  const rejected = async () => {
    const error = await rejection(mesh.worker.infer(wide));
    assert.equal(error.code, Code.InvalidArgument);
    assert.equal(error.rawMessage, "options.width: this model takes a multiple of 32 from 64 to 256");
  };
  const first = mesh.worker.infer({ prompt: "a" });
  await held.reached;
  assert.equal((await rejection(mesh.worker.infer({ prompt: "b" }))).code, Code.ResourceExhausted);
  await rejected();
  assert.ok(!mesh.spans().some(({ name }) => name === "inference"));
  held.release();
  await first;
  held.engine.setAvailable(false);
  assert.equal((await rejection(mesh.worker.infer({ prompt: "b" }))).code, Code.Unavailable);
  await rejected();
});

test("call that cannot meet its deadline is rejected at once with the numbers", async (t) => {
  // 100 ms of work a step, which is what the estimates are made from.
  const engine = createFakeEngine({ beforeStep: (_step, _request, signal) => delay(100, undefined, { signal }) });
  const mesh = await meshFor(t, { engine });
  for (let i = 0; i < 3; i++) {
    await mesh.worker.infer({ prompt: "a", options: { numInferenceSteps: 1 } });
  }
  const long = { prompt: "a", options: { numInferenceSteps: 150 } };
  const before = mesh.spans().length;
  const alone = await rejection(mesh.worker.infer(long, { timeoutMs: 8_000 }));
  assert.equal(alone.code, Code.DeadlineExceeded);
  assert.match(alone.rawMessage, /^deadline exceeded: generation is estimated at \d+\.\d s, and \d\.\d s are left$/);
  assert.equal(retryDelayMsOf(alone), undefined);
  assert.equal(mesh.spans().length, before);

  const generations = engine.generations;
  const controller = new AbortController();
  const running = mesh.worker.inferStream({ request: long }, { signal: controller.signal })[Symbol.asyncIterator]();
  await running.next();
  const short = { prompt: "b", options: { numInferenceSteps: 1 } };
  const queued = await rejection(mesh.worker.infer(short, { timeoutMs: 8_000 }));
  assert.equal(queued.code, Code.ResourceExhausted);
  assert.match(
    queued.rawMessage,
    /the wait is estimated at \d+\.\d s, generation is estimated at \d\.\d s, and \d\.\d s are left$/,
  );
  assert.ok((retryDelayMsOf(queued) ?? 0) > 0);
  assert.equal(engine.generations, generations + 1);
  controller.abort();
  await assert.rejects(async () => {
    for (;;) {
      await running.next();
    }
  });
});
