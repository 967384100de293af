import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { Code, createClient, createRouterTransport } from "@connectrpc/connect";
import { ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import {
  createRequestReporter,
  createRunningRequests,
  type RequestUpdate,
  type RunningRequests,
} from "../../src/studio/running-requests.js";

const begin = (requests: RunningRequests, traceId = "") => requests.begin({ method: "GenerateStream", traceId });
const progress = (step: number) => ({ case: "progress", value: { step } }) as const;

/** Reads updates, each as its kind and content. */
function reader(requests: RunningRequests) {
  const leaving = new AbortController();
  const updates = requests.watch(leaving.signal);
  const say = ({ traceId, event }: RequestUpdate): string => {
    switch (event?.case) {
      case "progress":
        return `${traceId} step ${event.value.step}`;
      case "ended":
        return `${traceId} ended ${event.value.statusCode}`;
      default:
        return `${traceId} ${event?.case}`;
    }
  };
  return {
    leave: () => leaving.abort(),
    async next(count: number): Promise<string[]> {
      const reported: string[] = [];
      while (reported.length < count) {
        const { value } = await updates.next();
        reported.push(value === undefined ? "over" : say(value));
      }
      return reported;
    },
  };
}

test("watcher receives running requests and then each change until it disconnects", async () => {
  const requests = createRunningRequests();
  const a = begin(requests, "a");
  a.report({ case: "queued", value: { position: 1 } });
  const watcher = reader(requests);
  assert.deepEqual(await watcher.next(2), ["a started", "a queued"]);
  const b = begin(requests, "b");
  assert.deepEqual(await watcher.next(1), ["b started"]);
  a.report(progress(1));
  assert.deepEqual(await watcher.next(1), ["a step 1"]);
  b.end("CANCELLED");
  a.end("OK");
  assert.deepEqual(await watcher.next(2), ["b ended CANCELLED", "a ended OK"]);
  const over = watcher.next(1);
  watcher.leave();
  assert.deepEqual(await over, ["over"]);
  assert.equal(requests.watcherCount(), 0);
});

test("slow watcher receives the latest state of each request and the end of each known one", async () => {
  const requests = createRunningRequests({ maxRequests: 10 });
  const a = begin(requests, "a");
  const slow = reader(requests);
  assert.deepEqual(await slow.next(1), ["a started"]);
  for (let step = 1; step <= 1000; step++) {
    a.report(progress(step));
  }
  for (let i = 0; i < 1000; i++) {
    begin(requests, `x${i}`).end("OK");
  }
  assert.deepEqual(await slow.next(1), ["a step 1000"]);
  a.end("OK");
  begin(requests, "last");
  const rest: string[] = [];
  while (rest.at(-1) !== "last started") {
    rest.push(...(await slow.next(1)));
  }
  assert.ok(rest.includes("a ended OK"));
  assert.ok(rest.length <= 2 * (2 * 10) + 2, `${rest.length}: what it never received of is forgotten`);
});

test("requests and watchers over the limits are rejected, and slots become free again", async () => {
  const requests = createRunningRequests({ maxRequests: 1, maxWatchers: 1 });
  const first = begin(requests, "first");
  begin(requests, "too many").end("OK");
  const watcher = reader(requests);
  assert.deepEqual(await watcher.next(1), ["first started"]);
  await assert.rejects(reader(requests).next(1), { code: Code.ResourceExhausted });
  first.end("OK");
  begin(requests, "second");
  assert.deepEqual(await watcher.next(2), ["first ended OK", "second started"]);
  watcher.leave();
  assert.deepEqual(await watcher.next(1), ["over"]);
  begin(requests, "third");
  assert.deepEqual(await reader(requests).next(1), ["second started"]);
});

test("requests without trace ids differ by their start time", async () => {
  const requests = createRunningRequests();
  for (let i = 0; i < 100; i++) {
    begin(requests);
  }
  const updates = requests.watch(new AbortController().signal);
  const starts = new Set<unknown>();
  for (let i = 0; i < 100; i++) {
    const { value } = await updates.next();
    starts.add(value?.startUnixNano);
  }
  assert.equal(starts.size, 100);
});

test("interceptor reports each call's progress and outcome without previews or results", async () => {
  const requests = createRunningRequests();
  const received: RequestUpdate[] = [];
  const leaving = new AbortController();
  const watching = (async () => {
    for await (const updates of requests.watch(leaving.signal)) {
      received.push(updates);
    }
  })();
  const transport = createRouterTransport(
    ({ service }) => {
      service(ImagePipelineService, {
        async generate({ prompt }) {
          if (prompt === "bad") {
            throw new TypeError("inner");
          }
          return { seed: 7 };
        },
        async *generateStream({ request }, { signal }) {
          const preview = new Uint8Array(1000);
          yield { event: { case: "queued", value: { position: 2 } } };
          await new Promise((resolve) => setImmediate(resolve));
          yield { event: { case: "progress", value: { step: 1, totalSteps: 2, preview } } };
          if (request?.prompt === "endless") {
            while (!signal.aborted) {
              await once(signal, "abort");
            }
            throw signal.reason;
          }
          yield { event: { case: "result", value: { seed: 7 } } };
        },
      });
    },
    { router: { interceptors: [createRequestReporter(requests)] } },
  );
  const client = createClient(ImagePipelineService, transport);
  const passed: unknown[] = [];
  for await (const { event } of client.generateStream({ request: { prompt: "good" } })) {
    passed.push(event.case === "progress" ? event.value.preview.length : event.case);
  }
  assert.deepEqual(passed, ["queued", 1000, "result"]);
  await client.generate({ prompt: "good" });
  await assert.rejects(client.generate({ prompt: "bad" }));
  const cancelling = new AbortController();
  await assert.rejects(async () => {
    for await (const { event } of client.generateStream(
      { request: { prompt: "endless" } },
      { signal: cancelling.signal },
    )) {
      if (event.case === "progress") {
        cancelling.abort();
      }
    }
  });
  while (received.filter(({ event }) => event?.case === "ended").length < 4) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  leaving.abort();
  await watching;
  assert.deepEqual(
    received.flatMap(({ event }) => (event?.case === "started" ? [event.value.method] : [])),
    ["GenerateStream", "Generate", "Generate", "GenerateStream"],
  );
  assert.deepEqual(
    received.flatMap(({ event }) => (event?.case === "ended" ? [event.value.statusCode] : [])),
    ["OK", "OK", "INTERNAL", "CANCELLED"],
  );
  const progressUpdate = received.find(({ event }) => event?.case === "progress");
  assert.ok(progressUpdate?.event?.case === "progress");
  assert.deepEqual(Object.keys(progressUpdate.event.value).toSorted(), ["stage", "step", "totalSteps"]);
});
