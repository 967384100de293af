import assert from "node:assert/strict";
import { EventEmitter, on, once } from "node:events";
import { suite, type TestContext, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { connectStudio } from "../../src/cli/commands/studio-client.js";
import { type EndedRequest, watchRequests } from "../../src/cli/commands/watch-requests.js";
import { CliError } from "../../src/cli/errors.js";
import { StudioService, type WatchRequestsResponseSchema } from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { Stage } from "../../src/gen/throughline/v1/image_pb.js";
import { listen } from "../../src/mesh/port/listen.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { makeSpan } from "../support/make-span.js";
import { startCollector } from "./support/start-collector.js";

type Updates = MessageInitShape<typeof WatchRequestsResponseSchema>;

const traceId = "a1".repeat(16);
const otherId = "b2".repeat(16);
const names = ["image-pipeline", "preprocess-prompt", "call-inference-worker", "inference", "diffusion", "upload"];
const spans = names.map((name) => makeSpan({ traceId, name, endMs: 10 }));

/** Watches a pipeline with scripted updates, and a collector with one trace. */
async function watch(t: TestContext) {
  const pipeline = new EventEmitter();
  const handler = createConnectHandler({
    routes: ({ service }) =>
      void service(StudioService, {
        async *watchRequests(_, { signal }): AsyncGenerator<Updates> {
          const update = on(pipeline, "update", { signal });
          pipeline.emit("watched");
          for await (const [message] of update) {
            if (message instanceof Error) {
              throw message;
            }
            yield message;
          }
        },
      }),
  });
  const listening = await listen({ handler, port: 0 });
  const collector = await startCollector(t, spans);
  const over = new AbortController();
  t.after(async () => {
    over.abort();
    await listening.stop({ graceMs: 0 });
  });
  const shown = new EventEmitter();
  const seen: string[] = [];
  const ended: EndedRequest[] = [];
  const see = (what: string) => {
    seen.push(what);
    shown.emit("seen");
  };
  const watched = once(pipeline, "watched");
  const done = watchRequests({
    pipeline: connectStudio(listening.url),
    collector: connectStudio(collector.url),
    signal: over.signal,
    view: {
      began: ({ traceId: id, method }) => see(`${id.slice(0, 2)} began ${method}`),
      queued: ({ traceId: id }, { position }) => see(`${id.slice(0, 2)} queued ${position}`),
      progress: ({ traceId: id }, { step }) => see(`${id.slice(0, 2)} step ${step}`),
      answered: ({ traceId: id }) => see(`${id.slice(0, 2)} answered`),
      ended(_, request) {
        ended.push(request);
        see(`${request.traceId.slice(0, 2)} ended ${request.statusCode}`);
      },
    },
  });
  done.catch(() => {});
  await watched;
  return {
    done,
    ended,
    stop: () => over.abort(),
    send: (update: Updates | Error) => pipeline.emit("update", update),
    /** All that was seen, once it is so much. */
    async seen(count: number): Promise<string[]> {
      while (seen.length < count) {
        await once(shown, "seen");
      }
      return seen;
    },
  };
}

const startUnixNano = 5_000_000n;
const started = (method: string) => ({ case: "started", value: { method } }) as const;

suite("watch requests of a pipeline", () => {
  test("watched requests are shown from start to end, several at a time, each with its trace", async (t) => {
    const { send, seen, ended, stop, done } = await watch(t);
    send({ traceId, startUnixNano, event: started("GenerateStream") });
    send({ traceId: otherId, startUnixNano, event: started("Generate") });
    send({ traceId, startUnixNano, event: { case: "queued", value: { position: 2 } } });
    send({
      traceId,
      startUnixNano,
      event: { case: "progress", value: { stage: Stage.DENOISING, step: 3, totalSteps: 4 } },
    });
    // An unknown request.
    send({ traceId: "c3".repeat(16), startUnixNano, event: { case: "queued", value: { position: 2 } } });
    send({ traceId, startUnixNano, event: { case: "ended", value: { statusCode: "OK" } } });
    assert.deepEqual(await seen(6), [
      "a1 began GenerateStream",
      "b2 began Generate",
      "a1 queued 2",
      "a1 step 3",
      "a1 answered",
      "a1 ended OK",
    ]);
    // Its trace is not known: it is waited for, but not for long.
    send({ traceId: otherId, startUnixNano, event: { case: "ended", value: { statusCode: "CANCELLED" } } });
    assert.deepEqual((await seen(8)).slice(6), ["b2 answered", "b2 ended CANCELLED"]);
    const [first, second] = ended;
    assert.deepEqual(first?.spans.map(({ name }) => name).sort(), names.toSorted());
    assert.equal(first?.method, "GenerateStream");
    assert.ok((first?.durationMs ?? 0) > 0);
    assert.deepEqual(second?.spans, []);
    stop();
    await done;
  });

  test("watched requests are shown again after a restart with the same id, and without a trace when tracing is off", async (t) => {
    const { send, seen, stop, done } = await watch(t);
    for (const start of [1n, 2n]) {
      send({ traceId: "", startUnixNano: start, event: started("Generate") });
    }
    send({ traceId: "", startUnixNano: 2n, event: { case: "ended", value: { statusCode: "OK" } } });
    assert.deepEqual(await seen(4), [" began Generate", " began Generate", " answered", " ended OK"]);
    stop();
    await done;
  });

  test("watch ends with the pipeline's message when the pipeline ends it", async (t) => {
    const { send, done } = await watch(t);
    send(new ConnectError("no more", Code.ResourceExhausted));
    await assert.rejects(done, (error) => {
      assert.ok(error instanceof CliError);
      assert.match(error.message, /^requests are no longer shown: http:\S+ answered RESOURCE_EXHAUSTED: no more$/);
      return true;
    });
  });
});
