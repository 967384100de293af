import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { PaintError } from "../../src/engine/engine.js";
import { RetryInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { text } from "../support/dump-spans.js";
import { startFleet } from "../support/fleet.js";
import { createHeldEngine } from "../support/held-engine.js";
import { dumpPainted, goodAttempt } from "../support/painted-trace.js";

const pickFirst = { loadBalancing: "pick_first" } as const;
const errorOf = (promise: Promise<unknown>) =>
  promise.then(
    () => assert.fail("the call succeeded"),
    (error: unknown) => ConnectError.from(error),
  );

/** Two workers; the first one's engine dies at its first painting, without a word of why for callers. */
async function fleetWithLoss(t: TestContext) {
  let fail = true;
  const seeds: number[] = [];
  const lossy = createFakeEngine({
    beforeStep(_step, { seed }) {
      if (fail) {
        fail = false;
        seeds.push(seed);
        throw new PaintError("lost", "the engine's process died", { cause: new Error("a secret") });
      }
    },
  });
  const sound = createFakeEngine({ beforeStep: (_step, { seed }) => void seeds.push(seed) });
  return { ...(await startFleet(t, { engines: [lossy, sound], policies: pickFirst })), seeds, lossy, sound };
}

test("a request whose worker is lost is painted by another, and its trace tells of both", async (t) => {
  const { client, collector } = await fleetWithLoss(t);
  const { traceId } = await client.generate({ prompt: "a red heart", options: { seed: 7 } });
  const spans = (await collector.waitFor((all) => all.length >= 8, AbortSignal.timeout(60_000))).filter(
    (span) => span.traceId === traceId,
  );
  assert.equal(
    dumpPainted(spans),
    text`
      image-pipeline SERVER image-pipeline
        call-inference-worker CLIENT image-pipeline
            app.id="local/text-to-image-worker"
            rpc.method="throughline.v1.TextToImageWorkerService/Infer"
            rpc.response.status_code="OK"
            rpc.system.name="grpc"
            event attempt attempt.number=1 attempt.retry_reason="the worker is not available" rpc.response.status_code="UNAVAILABLE" server.address="127.0.0.1" server.port=*
            ${goodAttempt(2)}
        inference SERVER text-to-image-worker ERROR "UNAVAILABLE"
            model.name="fake"
            prompt.length=11
            rpc.response.status_code="UNAVAILABLE"
          diffusion INTERNAL text-to-image-worker ERROR "INTERNAL"
              diffusion.execution_provider="none"
              diffusion.guidance_scale=5
              diffusion.scheduler="euler-discrete"
              diffusion.seed=7
              diffusion.steps=4
              image.height=64
              image.width=64
              event text-encoding
              event denoising
              event exception exception.type="PaintError"
        inference SERVER text-to-image-worker
            model.name="fake"
            prompt.length=11
          diffusion INTERNAL text-to-image-worker
              diffusion.execution_provider="none"
              diffusion.guidance_scale=5
              diffusion.scheduler="euler-discrete"
              diffusion.seed=7
              diffusion.steps=4
              image.height=64
              image.width=64
              event text-encoding
              event denoising
              event vae-decode
          upload INTERNAL text-to-image-worker
              image.content_type="image/png"
              image.file_size=*
        preprocess-prompt INTERNAL image-pipeline
            prompt.length=11
    `,
  );
});

test("a retried request without a seed paints the picture of one seed", async (t) => {
  const { client, seeds } = await fleetWithLoss(t);
  const { seed, image } = await client.generate({ prompt: "a" });
  assert.deepEqual(new Set(seeds), new Set([seed]));
  assert.equal((await client.generate({ prompt: "a", options: { seed } })).image?.url, image?.url);
});

test("a stream that has told of something is not begun again", async (t) => {
  const { client, sound } = await fleetWithLoss(t);
  const cases: (string | undefined)[] = [];
  const error = await errorOf(
    (async () => {
      for await (const { event } of client.generateStream({ request: { prompt: "a" } })) {
        cases.push(event.case);
      }
    })(),
  );
  assert.equal(error.rawMessage, "the engine's process died");
  assert.deepEqual(cases, ["progress", "progress"]);
  assert.equal(sound.paintings, 0);
});

test("full workers: the free one paints, then the smallest estimate is told, and no refusal makes a span", async (t) => {
  const held = [createHeldEngine(), createHeldEngine(), createHeldEngine()] as const;
  const { client, collector } = await startFleet(t, {
    engines: held.map(({ engine }) => engine),
    maxWaiting: 0,
    policies: pickFirst,
  });
  const calls = [];
  for (const { reached } of held) {
    calls.push(client.generate({ prompt: "a" }));
    await reached;
  }
  const refused = await errorOf(client.generate({ prompt: "a" }));
  assert.equal(refused.code, Code.ResourceExhausted);
  assert.equal(
    refused.rawMessage,
    "all 3 replicas of local/text-to-image-worker are full; the first to have room says: all places of this worker are taken",
  );
  assert.equal(refused.findDetails(RetryInfoSchema).length, 1);
  const spans = await collector.waitFor(
    (all) => all.some(({ name }) => name === "image-pipeline"),
    AbortSignal.timeout(60_000),
  );
  const call = spans.find(({ name }) => name === "call-inference-worker");
  assert.deepEqual(
    call?.events.map(({ name, attributes }) => [name, attributes["rpc.response.status_code"]]),
    [
      ["attempt", "RESOURCE_EXHAUSTED"],
      ["attempt", "RESOURCE_EXHAUSTED"],
      ["attempt", "RESOURCE_EXHAUSTED"],
      ["exception", undefined],
    ],
  );
  assert.ok(!spans.some(({ name }) => name === "inference"));
  for (const { release } of held) {
    release();
  }
  await Promise.all(calls);
});

test("a deadline's words come from the worker that had the request last", async (t) => {
  const held = createHeldEngine(3);
  let fail = false;
  const lossy = createFakeEngine({
    beforeStep() {
      if (fail) {
        throw new PaintError("lost", "the engine's process died");
      }
    },
  });
  const { client } = await startFleet(t, { engines: [lossy, held.engine], policies: pickFirst });
  // Connections and validators are made with the first call; a short deadline would go into that.
  await client.generate({ prompt: "a" });
  fail = true;
  const options = { numInferenceSteps: 9 };
  const error = await errorOf(client.generate({ prompt: "a", options }, { timeoutMs: 6_000 }));
  assert.deepEqual([error.code, error.rawMessage], [Code.DeadlineExceeded, "the time ran out: denoising, step 2 of 9"]);
});

test("a worker that drains gets nothing new, and what it paints is finished", async (t) => {
  const held = createHeldEngine();
  const other = createFakeEngine();
  const { client, workers } = await startFleet(t, { engines: [held.engine, other], policies: pickFirst });
  const running = client.generate({ prompt: "a" });
  await held.reached;
  const stopped = workers[0]?.stop({ graceMs: 60_000 });
  for (let i = 0; i < 3; i++) {
    await client.generate({ prompt: "b" });
  }
  assert.deepEqual([held.engine.paintings, other.paintings], [1, 3]);
  held.release();
  await running;
  await stopped;
  await workers[1]?.stop();
  const error = await errorOf(client.generate({ prompt: "c" }));
  assert.equal(error.code, Code.Unavailable);
  assert.match(
    error.rawMessage,
    /^no replica of local\/text-to-image-worker can be reached: (2 are (down|draining or not ready)|1 is down, 1 is draining or not ready)$/,
  );
});
