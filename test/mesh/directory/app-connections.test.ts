import assert from "node:assert/strict";
import { describe, suite, type TestContext, test } from "node:test";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createClient,
  createContextValues,
  createRouterTransport,
} from "@connectrpc/connect";
import { onwardCall } from "../../../src/app/call-deadline.js";
import {
  Health,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "../../../src/gen/grpc/health/v1/health_pb.js";
import { TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { connectApp } from "../../../src/mesh/balance/connect-app.js";
import { createAppConnections } from "../../../src/mesh/directory/app-connections.js";
import { type AppDirectory, type AppEntry, createAppDirectory } from "../../../src/mesh/directory/app-directory.js";
import { failure } from "../support/grpc-client.js";
import { openRelay } from "../support/relay.js";
import { serveWorker } from "../support/workers.js";

type Apps = Record<string, AppEntry>;

/** A directory that a test changes. */
function changing(apps: Apps) {
  let current = createAppDirectory({ apps });
  let listener = () => {};
  const directory: AppDirectory = {
    get appIds() {
      return current.appIds;
    },
    get defaultApp() {
      return current.defaultApp;
    },
    lookUp: (appId) => current.lookUp(appId),
    onChange(callback) {
      listener = callback;
    },
  };
  return {
    directory,
    change(next: Apps) {
      current = createAppDirectory({ apps: next });
      listener();
    },
  };
}

/** Connections whose streams give one message, and end when they are let go. */
function start(t: TestContext, apps: Apps) {
  const { directory, change } = changing(apps);
  const opened: string[] = [];
  const closed: string[] = [];
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const connections = createAppConnections({
    directory,
    connect({ target }, interceptors) {
      opened.push(target);
      const routes = ({ service }: ConnectRouter) => {
        service(Health, {
          check: () => ({ status: ServingStatus.SERVING }),
          async *watch() {
            yield { status: ServingStatus.SERVING };
            await released;
          },
        });
      };
      const transport = createRouterTransport(routes, { transport: { interceptors: [...interceptors] } });
      return { transport, close: () => void closed.push(target) };
    },
  });
  t.after(connections.close);
  return { client: createClient(Health, connections.transportTo("a/b")), change, opened, closed, release, connections };
}

suite("connections when the app directory changes", () => {
  test("unchanged app keeps its connection", async (t) => {
    const { client, change, opened, closed } = start(t, { "a/b": { target: "h:1" } });
    await client.check({});
    change({ "a/b": { target: "h:1" }, "c/d": { target: "h:2" } });
    await client.check({});
    assert.deepEqual([opened, closed], [["h:1"], []]);
  });

  test("changed policy opens a new connection and closes an idle old one at once", async (t) => {
    const { client, change, opened, closed } = start(t, { "a/b": { target: "h:1" } });
    await client.check({});
    change({ "a/b": { target: "h:1", policies: { loadBalancing: "round_robin" } } });
    assert.deepEqual(closed, ["h:1"]);
    await client.check({});
    assert.deepEqual(opened, ["h:1", "h:1"]);
  });

  test("running stream keeps its old connection open until it ends", async (t) => {
    const { client, change, opened, closed, release } = start(t, { "a/b": { target: "h:1" } });
    const stream = client.watch({})[Symbol.asyncIterator]();
    await stream.next();
    change({ "a/b": { target: "h:2" } });
    await client.check({});
    assert.deepEqual([opened, closed], [["h:1", "h:2"], []]);
    release();
    assert.equal((await stream.next()).done, true);
    assert.deepEqual(closed, ["h:1"]);
  });

  test("aborted stream releases its old connection", async (t) => {
    const { client, change, closed } = start(t, { "a/b": { target: "h:1" } });
    const caller = new AbortController();
    const stream = client.watch({}, { signal: caller.signal })[Symbol.asyncIterator]();
    await stream.next();
    change({ "a/b": { target: "h:2" } });
    assert.deepEqual(closed, []);
    caller.abort();
    assert.deepEqual(closed, ["h:1"]);
  });

  test("client of a removed app gets NOT_FOUND, and works again when the app returns", async (t) => {
    const { client, change } = start(t, { "a/b": { target: "h:1" } });
    await client.check({});
    change({ "c/d": { target: "h:2" } });
    assert.equal((await failure(client.check({}))).code, Code.NotFound);
    change({ "a/b": { target: "h:3" } });
    assert.equal((await client.check({})).status, ServingStatus.SERVING);
  });

  test("close ends all connections, including those that drain", async (t) => {
    const { client, change, closed, connections, release } = start(t, { "a/b": { target: "h:1" } });
    const stream = client.watch({})[Symbol.asyncIterator]();
    await stream.next();
    change({ "a/b": { target: "h:2" } });
    await client.check({});
    connections.close();
    assert.deepEqual(closed, ["h:1", "h:2"]);
    release();
  });
});

describe("onward deadline", () => {
  test("deadline error of a call to another app says where the time was spent", async (t) => {
    const silent = await serveWorker(t);
    const silentRelay = await openRelay(t, silent.port);
    const entry = createAppDirectory({ apps: { "a/b": { target: `127.0.0.1:${silentRelay.port}` } } }).lookUp("a/b");
    const connection = connectApp(entry);
    t.after(connection.close);
    const client = createClient(TextToImageWorkerService, connection.transport);
    // The connection and the validators are made with the first call; a short deadline would go into that.
    await client.infer({ prompt: "a" });
    silentRelay.swallow();
    const onward = () =>
      onwardCall({
        signal: new AbortController().signal,
        timeoutMs: () => 2_500,
        values: createContextValues(),
      });
    const unary = client.infer({ prompt: "a" }, onward());
    const stream = (async () => {
      for await (const _ of client.inferStream({ request: { prompt: "a" } }, onward())) {
        // Its end is what matters.
      }
    })();
    for (const call of [unary, stream]) {
      await assert.rejects(call, (error) => {
        const { code, rawMessage } = ConnectError.from(error);
        assert.equal(code, Code.DeadlineExceeded);
        assert.match(rawMessage, /^deadline exceeded: waiting for the worker's /);
        return true;
      });
    }
  });
});
