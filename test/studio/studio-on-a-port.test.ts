import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Code, ConnectError, createClient, createRouterTransport, type Transport } from "@connectrpc/connect";
import { createConnectTransport as createNodeTransport } from "@connectrpc/connect-node";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { cancellableFetch } from "../../src/client/cancellable-fetch.js";
import { StudioService } from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { listen } from "../../src/mesh/port/listen.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { createCollector } from "../../src/studio/collector.js";
import { createRunningRequests } from "../../src/studio/running-requests.js";
import { createSpanStore } from "../../src/studio/span-store.js";
import { studioRelayRoutes } from "../../src/studio/studio-relay.js";
import { watchTrace } from "../../src/studio/studio-service.js";
import { makeSpan } from "../support/make-span.js";
import { createWatchedStore } from "../support/watched-store.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const traceId = "a".repeat(32);

async function startCollector(t: TestContext) {
  const store = createWatchedStore();
  const { routes, interceptors, httpHandler } = createCollector({ store });
  const handler = createConnectHandler({ routes, interceptors, fallback: httpHandler });
  const listening = await listen({ handler, port: 0 });
  t.after(() => listening.stop({ graceMs: 0 }));
  store.add([
    { ...makeSpan({ traceId, name: "image-pipeline", attributes: { "prompt.length": 11 } }), endUnixNano: 0n },
  ]);
  return { url: listening.url, store };
}

test("third-party gRPC client watches a trace and releases its slot when it disconnects", async (t) => {
  const { url, store } = await startCollector(t);
  const definition = loadSync("throughline/studio/v1/studio.proto", {
    includeDirs: [`${root}/proto`, `${root}/third_party/proto`],
    keepCase: true,
    longs: String,
    defaults: true,
    oneofs: true,
  })["throughline.studio.v1.StudioService"];
  assert.ok(definition && !("format" in definition));
  const { WatchTrace: method } = definition;
  assert.ok(method);
  const client = new grpc.Client(new URL(url).host, grpc.credentials.createInsecure());
  t.after(() => client.close());
  const call = client.makeServerStreamRequest(method.path, method.requestSerialize, method.responseDeserialize, {
    trace_id: traceId,
    idle_ms: 600_000,
  });
  const ends: string[][] = [];
  call.on("error", () => {});
  for await (const message of call.iterator({ destroyOnReturn: false })) {
    const { spans } = message as { spans: { name: string; end_unix_nano: string; attributes: object }[] };
    ends.push(spans.map(({ name, end_unix_nano }) => `${name} ${end_unix_nano === "0" ? "runs" : "ended"}`));
    assert.ok("prompt.length" in (spans[0]?.attributes ?? {}));
    if (ends.length === 2) {
      break;
    }
    store.add([makeSpan({ traceId, name: "image-pipeline", attributes: { "prompt.length": 11 }, endMs: 5 })]);
  }
  assert.deepEqual(ends, [["image-pipeline runs"], ["image-pipeline ended"]]);
  assert.equal(store.listenerCount(), 1);
  call.cancel();
  await store.listeners(0);
});

const transports: Readonly<Record<string, (baseUrl: string) => Transport>> = {
  "Connect over fetch": (baseUrl) => createConnectTransport({ baseUrl, fetch: cancellableFetch }),
  "gRPC-Web over fetch": (baseUrl) => createGrpcWebTransport({ baseUrl, fetch: cancellableFetch }),
  "Connect over HTTP/1.1": (baseUrl) => createNodeTransport({ baseUrl, httpVersion: "1.1" }),
};

for (const [name, transportTo] of Object.entries(transports)) {
  // Not Node 20's own fetch, which can lose the abort that this is about.
  test(`watcher that disconnects releases its slot: ${name}`, async (t) => {
    const { url, store } = await startCollector(t);
    const studio = createClient(StudioService, transportTo(url));
    const leaving = new AbortController();
    const { signal } = leaving;
    const watchers = [
      studio.watchTrace({ traceId, idleMs: 600_000 }, { signal }),
      studio.watchTrace({ traceId: "b".repeat(32), idleMs: 600_000 }, { signal }),
      studio.watchEntityMap({}, { signal }),
    ].map(async (messages) => {
      for await (const _ of messages) {
        // Read on.
      }
    });
    await store.listeners(3);
    leaving.abort();
    const ends = await Promise.allSettled(watchers);
    assert.ok(ends.every(({ status }) => status === "rejected"));
    await store.listeners(0);
  });
}

test("newest 2,000 spans are kept for a stalled reader", async () => {
  const store = createSpanStore({ maxSpansPerTrace: 10_000 });
  const traceId = "a".repeat(32);
  const spanOf = (n: number) => makeSpan({ traceId, spanId: n.toString(16).padStart(16, "0"), name: `${n}` });
  store.add([spanOf(1)]);
  const leaving = new AbortController();
  const messages = watchTrace(store, { traceId, idleMs: 600_000, signal: leaving.signal });
  await messages.next();
  store.add(Array.from({ length: 5000 }, (_, n) => spanOf(n + 2)));
  store.add([spanOf(4000)]);
  const names: string[] = [];
  while (names.at(-1) !== "5001") {
    const { value, done } = await messages.next();
    assert.ok(done !== true);
    names.push(...value.map(({ name }) => name));
  }
  assert.equal(names.length, 2000);
  assert.equal(names[0], "3002");
  leaving.abort();
  assert.equal((await messages.next()).done, true);
  assert.equal(store.listenerCount(), 0);
});

test("relay rejects streams over 128 instead of queueing them on the collector's connection", async () => {
  const store = createWatchedStore();
  const traceId = "a".repeat(32);
  store.add([makeSpan({ traceId })]);
  const collector = createClient(StudioService, createRouterTransport(createCollector({ store }).routes));
  const routes = studioRelayRoutes({
    collector,
    directory: createAppDirectory({ apps: { "a/b": { target: "localhost:1" } } }),
    watchRequests: createRunningRequests().watch,
    traceUrlTemplate: undefined,
    traceBackend: undefined,
    ending: new AbortController().signal,
    onCollectorAway: () => assert.fail("the collector is there"),
  });
  const studio = createClient(StudioService, createRouterTransport(routes));
  const watch = async () => {
    const leaving = new AbortController();
    const spans = studio.watchTrace({ traceId, idleMs: 600_000 }, { signal: leaving.signal })[Symbol.asyncIterator]();
    assert.equal((await spans.next()).done, false);
    return async () => {
      leaving.abort();
      await assert.rejects(spans.next());
    };
  };
  const [leave, ...others] = await Promise.all(Array.from({ length: 128 }, watch));
  await assert.rejects(watch(), (error) => {
    assert.ok(error instanceof ConnectError);
    assert.equal(error.code, Code.ResourceExhausted);
    return /128/.test(error.message);
  });
  assert.equal((await studio.listTraces({})).traces.length, 1);
  await leave?.();
  await store.listeners(127);
  const leaveAgain = await watch();
  await Promise.all([leaveAgain, ...others].map((each) => each()));
  await store.listeners(0);
});
