import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { type CallOptions, Code, ConnectError } from "@connectrpc/connect";
import type { WatchRequestsResponse } from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { createCallerKey, hashCallerKey } from "../../src/mesh/access/caller-keys.js";
import { reloadCallersFile } from "../../src/mesh/access/callers-file.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { replaceFile } from "../support/certificates.js";
import { createHeldEngine } from "../support/held-engine.js";
import { startStudioMesh } from "../support/studio-mesh.js";

const contractSpans = [
  "call-inference-worker",
  "diffusion",
  "image-pipeline",
  "inference",
  "preprocess-prompt",
  "upload",
];

const codeOf = (call: Promise<unknown>) =>
  call.then(
    () => undefined,
    (error: unknown) => ConnectError.from(error).code,
  );

/** The first message of a stream, which is left then: clients pass a `break` on by nothing but the signal. */
async function first<T>(watch: (options: CallOptions) => AsyncIterable<T>): Promise<T | undefined> {
  const leaving = new AbortController();
  for await (const message of watch({ signal: leaving.signal })) {
    leaving.abort();
    return message;
  }
  return undefined;
}

test("studio shows a trace as it grows, and exactly the six contract spans at its end", async (t) => {
  const held = createHeldEngine();
  t.after(held.release);
  const { client, studio, store } = await startStudioMesh(t, { engine: held.engine });
  let tell = (_traceId: string) => {};
  const updateSeen = new Promise<string>((resolve) => {
    tell = resolve;
  });
  const onHeader = (headers: Headers) => tell(headers.get("traceresponse")?.split("-")[1] ?? "");
  const generation = (async () => {
    for await (const _ of client.generateStream({ request: { prompt: "a red heart" } }, { onHeader })) {
      // To its end.
    }
  })();
  const traceId = await updateSeen;
  const seen = new Map<string, { readonly name: string; readonly ended: boolean }>();
  let stages: string[] = [];
  let wereSeenRunning = false;
  for await (const { spans } of studio.watchTrace({ traceId, idleMs: 1000 })) {
    for (const { spanId, name, endUnixNano, events: moments } of spans) {
      seen.set(spanId, { name, ended: endUnixNano !== 0n });
      if (name === "diffusion" && endUnixNano === 0n) {
        stages = moments.map((event) => event.name);
      }
    }
    const running = [...seen.values()].filter(({ ended }) => !ended).map(({ name }) => name);
    // The two services report theirs one after the other.
    const isWhole = ["image-pipeline", "inference", "diffusion"].every((name) => running.includes(name));
    if (isWhole && stages.includes("denoising")) {
      wereSeenRunning = true;
      held.release();
    }
  }
  await generation;
  assert.ok(wereSeenRunning);
  assert.deepEqual([...seen.values()].map(({ name }) => name).toSorted(), contractSpans);
  assert.ok([...seen.values()].every(({ ended }) => ended));
  assert.deepEqual(stages, ["text-encoding", "denoising"]);
  assert.equal(store.spansOf(traceId).length, 6);
  await store.listeners(0);

  const { traces } = await studio.listTraces({});
  const summary = traces.find((each) => each.traceId === traceId);
  assert.deepEqual([summary?.name, summary?.spanCount, summary?.running], ["image-pipeline", 6, false]);
});

test("service graph shows both apps and their call, and the studio's own requests make no trace", async (t) => {
  const { client, studio, store } = await startStudioMesh(t);
  const { traceId } = await client.generate({ prompt: "a red heart" });
  await store.waitForTrace(traceId, ({ length }) => length === 6, AbortSignal.timeout(30_000));
  const traces = store.traceIds().length;
  const map = await first((options) => studio.watchEntityMap({}, options));
  assert.deepEqual(
    map?.entities.map(({ name, figures: of }) => [name, of?.errorCount]),
    [
      ["image-pipeline", 0],
      ["text-to-image-worker", 0],
    ],
  );
  assert.deepEqual(
    map?.calls.map(({ caller, callee, figures: of }) => [caller, callee, of?.count]),
    [["image-pipeline", "text-to-image-worker", 1]],
  );
  await store.listeners(0);
  assert.equal(store.traceIds().length, traces);
  const { workerApps, hasTraces, traceUrlTemplate, traceBackend } = await studio.getStudio({});
  assert.deepEqual(
    [workerApps, hasTraces, traceUrlTemplate, traceBackend],
    [["acme/worker", "acme/other"], true, "http://localhost:16686/trace/{traceId}", "Jaeger"],
  );
});

test("request watchers receive every request without its prompt", async (t) => {
  const held = createHeldEngine();
  t.after(held.release);
  const { client, studio } = await startStudioMesh(t, { engine: held.engine });
  const leaving = new AbortController();
  const updates = studio.watchRequests({}, { signal: leaving.signal })[Symbol.asyncIterator]();
  const seenUpdates: WatchRequestsResponse[] = [];
  const until = async (wanted: string) => {
    for (;;) {
      const { value }: { value?: WatchRequestsResponse } = await updates.next();
      assert.ok(value !== undefined);
      seenUpdates.push(value);
      if (value.event.case === wanted) {
        return value;
      }
    }
  };
  const generation = (async () => {
    let traceId = "";
    const request = { prompt: "a secret heart", options: { previewInterval: 1 } };
    for await (const { event } of client.generateStream({ request })) {
      traceId = event.case === "result" ? event.value.traceId : traceId;
    }
    return traceId;
  })();
  const started = await until("started");
  await until("progress");
  held.release();
  const ended = await until("ended");
  const traceId = await generation;
  assert.ok(seenUpdates.every((each) => each.traceId === traceId && each.startUnixNano === started.startUnixNano));
  assert.ok(started.event.case === "started" && started.event.value.method === "GenerateStream");
  assert.ok(ended.event.case === "ended" && ended.event.value.statusCode === "OK");
  assert.ok(seenUpdates.every(({ event }) => event.case !== "progress" || event.value.preview.length === 0));
  assert.doesNotMatch(
    JSON.stringify(seenUpdates, (_, value) => (typeof value === "bigint" ? String(value) : value)),
    /secret/,
  );

  await assert.rejects(client.generate({ prompt: " \t " }));
  const rejected = await until("ended");
  assert.ok(rejected.event.case === "ended" && rejected.event.value.statusCode === "INVALID_ARGUMENT");
  leaving.abort();
  await assert.rejects(updates.next());
});

test("studio reports a collector outage as UNAVAILABLE, and images are generated as before", async (t) => {
  const { client, studio, stopCollector, away } = await startStudioMesh(t);
  const watching = first((options) => studio.watchTrace({ traceId: "a".repeat(32), idleMs: 600_000 }, options));
  const ended = codeOf(watching);
  await studio.listTraces({});
  await stopCollector();
  assert.equal(await ended, Code.Unavailable);
  const error = await studio.listTraces({}).catch((thrown: unknown) => ConnectError.from(thrown));
  assert.ok(error instanceof ConnectError);
  assert.equal(error.code, Code.Unavailable);
  assert.equal(error.rawMessage, "the collector that this studio asks for traces does not answer");
  assert.equal(await codeOf(first((options) => studio.watchEntityMap({}, options))), Code.Unavailable);
  assert.ok(away.length >= 3, "the log knows why");
  assert.ok((await client.generate({ prompt: "a red heart" })).image);
});

test("studio returns the collector's and the contract's rejections", async (t) => {
  const { studio } = await startStudioMesh(t);
  assert.equal(await codeOf(first((options) => studio.watchTrace({ traceId: "x" }, options))), Code.InvalidArgument);
  assert.equal(await codeOf(studio.listTraces({ limit: 0 })), Code.InvalidArgument);
});

test("watched studio does not delay its pipeline's shutdown", async (t) => {
  const { studio, pipeline, store, requests } = await startStudioMesh(t);
  const watchers = [
    codeOf(first((options) => studio.watchTrace({ traceId: "a".repeat(32), idleMs: 600_000 }, options))),
    codeOf(first((options) => studio.watchRequests({}, options))),
  ];
  await store.listeners(1);
  // Far longer than the test may take.
  await pipeline.stop({ graceMs: 3_600_000 });
  const [trace] = await Promise.all(watchers);
  assert.equal(trace, Code.Unavailable);
  await store.listeners(0);
  assert.equal(requests.watcherCount(), 0);
});

test("studio with authentication shows each caller only its own apps", async (t) => {
  const key = createCallerKey();
  const callersFile = await replaceFile(
    join(await temporaryFolder(), "callers.yaml"),
    JSON.stringify({ callers: [{ name: "guest", keys: [hashCallerKey(key)], apps: ["acme/other"] }] }),
  );
  const callers = reloadCallersFile(callersFile, { onRejected: (error) => assert.fail(String(error)) });
  t.after(() => callers.close());
  const { studio } = await startStudioMesh(t, { serve: { callers } });
  const traceId = "a".repeat(32);
  for (const call of [
    studio.getStudio({}),
    studio.listTraces({}),
    first((options) => studio.watchTrace({ traceId }, options)),
    first((options) => studio.watchEntityMap({}, options)),
    first((options) => studio.watchRequests({}, options)),
  ]) {
    assert.equal(await codeOf(call), Code.Unauthenticated);
  }
  const headers = { authorization: `Bearer ${key}` };
  assert.deepEqual((await studio.getStudio({}, { headers })).workerApps, ["acme/other"]);
});
