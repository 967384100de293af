import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { StudioService } from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { createCollector } from "../../src/studio/collector.js";
import { createRunningRequests } from "../../src/studio/running-requests.js";
import { studioRelayRoutes } from "../../src/studio/studio-relay.js";
import { makeSpan } from "../support/make-span.js";
import { createWatchedStore } from "../support/watched-store.js";

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
