import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { createClient, createRouterTransport } from "@connectrpc/connect";
import { ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { createRequestReporter, createRunningRequests, type RequestUpdate } from "../../src/studio/running-requests.js";

test("interceptor reports each call's progress and outcome without previews or results", async () => {
  const requests = createRunningRequests();
  const heard: RequestUpdate[] = [];
  const leaving = new AbortController();
  const watching = (async () => {
    for await (const updates of requests.watch(leaving.signal)) {
      heard.push(updates);
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
  while (heard.filter(({ event }) => event?.case === "ended").length < 4) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  leaving.abort();
  await watching;
  assert.deepEqual(
    heard.flatMap(({ event }) => (event?.case === "started" ? [event.value.method] : [])),
    ["GenerateStream", "Generate", "Generate", "GenerateStream"],
  );
  assert.deepEqual(
    heard.flatMap(({ event }) => (event?.case === "ended" ? [event.value.statusCode] : [])),
    ["OK", "OK", "INTERNAL", "CANCELLED"],
  );
  const told = heard.find(({ event }) => event?.case === "progress");
  assert.ok(told?.event?.case === "progress");
  assert.deepEqual(Object.keys(told.event.value).toSorted(), ["stage", "step", "totalSteps"]);
});
