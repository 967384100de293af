import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:http2";
import { describe, type TestContext, test } from "node:test";
import { Code, type ConnectRouter, createClient } from "@connectrpc/connect";
import { pino } from "pino";
import { type AppOptions, createApp, type RunningApp } from "../../src/app/create-app.js";
import { type EndAppOptions, endApp, teardownMs } from "../../src/app/lifecycle.js";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "../../src/gen/grpc/health/v1/health_pb.js";
import { TextToImageWorkerService } from "../../src/gen/throughline/v1/worker_pb.js";
import { certificateHolders } from "../../src/mesh/access/caller-directory.js";
import { dumpSpans, text } from "../support/dump-spans.js";
import { steadyPort } from "../support/steady-port.js";
import { openStockTransport } from "../support/stock-transport.js";
import { testTelemetry } from "../support/telemetry.js";

const logger = pino({ level: "silent" });
const services = [TextToImageWorkerService];

/** A worker that answers at once, or when `generation` has. */
const routesOf = (generation?: () => Promise<void>) => (router: ConnectRouter) => {
  router.service(TextToImageWorkerService, {
    async infer() {
      await generation?.();
      return { model: "none" };
    },
    async *inferStream() {
      await generation?.();
      yield {};
    },
  });
};

function appOf(t: TestContext, options: Partial<AppOptions> = {}) {
  const telemetry = testTelemetry(t, "worker");
  return {
    ...telemetry,
    app: createApp({ name: "worker", services, routes: routesOf(), telemetry, logger, ...options }),
  };
}

/** A gRPC client of an app, closed after the test. */
function clientsOf(t: TestContext, running: Pick<RunningApp, "port">) {
  const { transport, close } = openStockTransport(running.port);
  t.after(close);
  return { health: createClient(Health, transport), worker: createClient(TextToImageWorkerService, transport) };
}

const deferred = () => {
  let resolve = () => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
};

async function probe(url: string, path: string) {
  const response = await fetch(`${url}${path}`);
  return `${response.status} ${(await response.text()).trim()}`;
}

test("health and probes report the app's state from start to shutdown", async (t) => {
  const port = await steadyPort();
  const ready = deferred();
  let setAvailable = (_available: boolean) => {};
  const generation = deferred();
  const begun = deferred();
  const { app } = appOf(t, {
    routes: routesOf(async () => {
      begun.resolve();
      await generation.promise;
    }),
    async setup(hooks) {
      setAvailable = hooks.setAvailable;
      await ready.promise;
    },
  });
  const url = `http://127.0.0.1:${port}`;
  const { health, worker } = clientsOf(t, { port });
  const serving = app.serve({ port });
  const states = async () => {
    const { statuses } = await health.list({});
    const all = ["", TextToImageWorkerService.typeName].map((name) => ServingStatus[statuses[name]?.status ?? 0]);
    return [await probe(url, "/healthz"), await probe(url, "/readyz"), ...all];
  };
  const rejected = () => assert.rejects(worker.infer({ prompt: "a" }), { code: Code.Unavailable });
  while (!(await fetch(`${url}/healthz`).catch(() => undefined))) {
    // It takes a moment to listen, and a channel that failed to connect would pause.
  }

  assert.deepEqual(await states(), ["200 starting", "503 starting", "NOT_SERVING", "NOT_SERVING"]);
  await rejected();
  ready.resolve();
  const running = await serving;
  assert.deepEqual(await states(), ["200 serving", "200 serving", "SERVING", "SERVING"]);
  setAvailable(false);
  assert.deepEqual(await states(), ["200 interrupted", "503 interrupted", "NOT_SERVING", "NOT_SERVING"]);
  setAvailable(true);
  assert.deepEqual(await states(), ["200 serving", "200 serving", "SERVING", "SERVING"]);

  const watched: string[] = [];
  const isWatched = deferred();
  const watching = (async () => {
    for await (const { status } of health.watch({ service: "" })) {
      watched.push(ServingStatus[status]);
      isWatched.resolve();
    }
  })();
  await isWatched.promise;
  const call = worker.infer({ prompt: "a" });
  await begun.promise;
  const stopped = running.stop();
  await watching;
  assert.deepEqual(watched, ["SERVING", "NOT_SERVING"]);
  // New calls are rejected, and the running call finishes.
  await assert.rejects(fetch(`${url}/readyz`));
  generation.resolve();
  assert.equal((await call).model, "none");
  await stopped;
});

test("probes are answered over HTTP/2, for GET and HEAD only", async (t) => {
  const { app } = appOf(t);
  const running = await app.serve({ port: 0 });
  t.after(() => running.stop());
  const session = connect(running.url);
  t.after(() => session.destroy());
  // Read to its end, for which the app's own end would wait.
  const [headers] = await once(session.request({ ":path": "/readyz" }).end().resume(), "response");
  assert.equal(headers[":status"], 200);
  assert.equal((await fetch(`${running.url}/healthz`, { method: "HEAD" })).status, 200);
  assert.equal((await fetch(`${running.url}/healthz`, { method: "POST" })).status, 405);
  assert.equal((await fetch(`${running.url}/elsewhere`)).status, 404);
});

test("AWS's health check of gRPC targets gets status 12 in HTTP 200, and needs no key", async (t) => {
  const { app } = appOf(t);
  const running = await app.serve({ port: 0, callers: { current: certificateHolders, onChange() {}, close() {} } });
  t.after(() => running.stop());
  const session = connect(running.url);
  t.after(() => session.destroy());
  const headers = { ":method": "POST", ":path": "/AWS.ALB/healthcheck", "content-type": "application/grpc" };
  const [fields] = await once(session.request(headers).end().resume(), "response");
  assert.deepEqual([fields[":status"], fields["grpc-status"]], [200, "12"]);
});

test("probes need no key on an app with authentication", async (t) => {
  const { app } = appOf(t);
  const running = await app.serve({ port: 0, callers: { current: certificateHolders, onChange() {}, close() {} } });
  t.after(() => running.stop());
  assert.equal(await probe(running.url, "/readyz"), "200 serving");
  await assert.rejects(clientsOf(t, running).worker.infer({ prompt: "a" }), { code: Code.Unauthenticated });
});

test("each call makes one SERVER span whose parent is the request's carrier", async (t) => {
  const { app, collector } = appOf(t);
  const running = await app.serve({ port: 0 });
  t.after(() => running.stop());
  const { worker } = clientsOf(t, running);
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const header = { traceparent: "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" };
  await worker.infer({ prompt: "a", traceContext: { traceparent } }, { headers: header });
  for await (const _ of worker.inferStream({ request: { prompt: "a", traceContext: { traceparent } } })) {
  }
  await worker.infer({ prompt: "a" }, { headers: header });
  assert.equal(
    dumpSpans(collector.spans()),
    text`
      (remote parent)
        worker SERVER worker
      (remote parent)
        worker SERVER worker
      worker SERVER worker
          link 1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331
    `,
  );
  assert.deepEqual(
    collector
      .spans()
      .map(({ traceId }) => traceId.slice(0, 8))
      .slice(0, 2),
    ["0af76519", "0af76519"],
  );
});

test("failed setup runs the teardown and rejects with its own error", async (t) => {
  let freed = false;
  const failure = new Error("no model");
  const { app } = appOf(t, {
    setup: () => Promise.reject(failure),
    teardown() {
      freed = true;
      return Promise.reject(new Error("and nothing to free"));
    },
  });
  await assert.rejects(app.serve({ port: 0 }), failure);
  assert.ok(freed);
});

describe("end of an app", () => {
  function ending(options: Pick<EndAppOptions, "teardown">) {
    const logged: unknown[] = [];
    let flushed = false;
    const ended = endApp({
      ...options,
      name: "worker",
      telemetry: {
        async shutdown() {
          flushed = true;
        },
      },
      logger: { error: (fields: unknown) => logged.push(fields) },
    });
    return { ended, logged, flushed: () => flushed };
  }

  test("teardown that never ends is abandoned after the last spans are exported", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    let over = false;
    const { ended, logged, flushed } = ending({ teardown: () => new Promise(() => {}) });
    void ended.then(() => {
      over = true;
    });
    t.mock.timers.tick(teardownMs - 1);
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual([over, flushed(), logged.length], [false, true, 0]);
    t.mock.timers.tick(1);
    await ended;
    assert.match(
      JSON.stringify(logged, (_, value) => (value instanceof Error ? value.message : value)),
      /3000 ms/,
    );
  });

  test("failed teardown is logged and does not fail the shutdown", async () => {
    const failure = new Error("the device is gone");
    const { ended, logged, flushed } = ending({ teardown: () => Promise.reject(failure) });
    await ended;
    assert.deepEqual([flushed(), logged], [true, [{ err: failure }]]);
  });
});
