import assert from "node:assert/strict";
import { once, setMaxListeners } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import * as net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { Code, createClient } from "@connectrpc/connect";
import { ImagePipelineService } from "../../../src/gen/throughline/v1/pipeline_pb.js";
import { TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { connectApp } from "../../../src/mesh/balance/connect-app.js";
import { readPolicies } from "../../../src/mesh/grpc/policies.js";
import { failure, kinds, transportTo, waiting } from "../support/grpc-client.js";
import { answerWith, serveRaw } from "../support/raw-grpc-server.js";
import { envelope } from "../support/raw-http.js";
import { openRelay } from "../support/relay.js";
import { serveEcho } from "../support/serve-echo.js";
import { connectTo } from "../support/workers.js";

suite("gRPC connections", () => {
  test("connection reaches a server on a Unix socket", async (t) => {
    const { port } = await serveEcho(t);
    const folder = await mkdtemp(join(tmpdir(), "mesh-"));
    t.after(() => rm(folder, { recursive: true }));
    const path = join(folder, "worker.sock");
    const relay = net.createServer((socket) => {
      const upstream = net.connect(port, "127.0.0.1");
      for (const end of [socket, upstream]) {
        // One end may be gone before the other.
        end.on("error", () => {});
      }
      socket.pipe(upstream).pipe(socket);
    });
    relay.listen(path);
    await once(relay, "listening");
    t.after(() => relay.close());
    const client = createClient(TextToImageWorkerService, transportTo(t, `unix:${path}`));
    assert.equal(await kinds.unary(client), 7);
  });

  test("connection without responses fails by keepalive", async (t) => {
    const wait = waiting();
    const { port } = await serveEcho(t, { behaviour: wait.behaviour });
    const silentRelay = await openRelay(t, port);
    const policies = { keepalive: { timeMs: 1_000, timeoutMs: 3_000 } };
    const client = createClient(
      TextToImageWorkerService,
      transportTo(t, `127.0.0.1:${silentRelay.port}`, { policies }),
    );
    const failed = failure(client.infer({ prompt: "x" }));
    await wait.began;
    silentRelay.swallow();
    assert.equal((await failed).code, Code.Unavailable);
  });

  test("stream that has begun fails with the mesh's message when keepalive gives its connection up", async (t) => {
    const wait = waiting();
    const { port } = await serveEcho(t, { behaviour: wait.behaviour });
    const silentRelay = await openRelay(t, port);
    const policies = { keepalive: { timeMs: 1_000, timeoutMs: 1_000 } };
    const client = createClient(
      TextToImageWorkerService,
      transportTo(t, `127.0.0.1:${silentRelay.port}`, { policies }),
    );
    const events = client.inferStream({ request: { prompt: "x" } })[Symbol.asyncIterator]();
    assert.equal((await events.next()).value?.event.case, "queued");
    silentRelay.swallow();
    const rest = (async () => {
      while ((await events.next()).done !== true) {
        // Events that were on their way.
      }
    })();
    assert.equal((await failure(rest)).message, "[unavailable] the connection to the server was lost");
  });

  test("closed connection rejects every call with UNAVAILABLE", async (t) => {
    const { port } = await serveEcho(t);
    const { transport, close } = connectApp({ appId: "a/b", target: `127.0.0.1:${port}`, policies: readPolicies() });
    const client = createClient(TextToImageWorkerService, transport);
    assert.equal(await kinds.unary(client), 7);
    close();
    for (const call of Object.values(kinds)) {
      assert.equal((await failure(call(client))).message, "[unavailable] the channel is closed");
    }
  });

  test("one connection serves several gRPC services", async (t) => {
    const { port } = await serveEcho(t);
    const transport = transportTo(t, `127.0.0.1:${port}`);
    assert.equal((await createClient(ImagePipelineService, transport).generate({ prompt: "x" })).model, "echo");
    assert.equal((await createClient(TextToImageWorkerService, transport).infer({ prompt: "x" })).model, "");
  });

  test("connection to a target that cannot be parsed fails", async (t) => {
    const client = createClient(TextToImageWorkerService, transportTo(t, ""));
    await assert.rejects(kinds.unary(client));
  });
});

test("calls beyond one connection's stream limit run at once on several connections", async (t) => {
  const count = 350;
  let open = 0;
  let allOpen = () => {};
  const reached = new Promise<void>((resolve) => {
    allOpen = resolve;
  });
  const server = await serveRaw(
    t,
    (stream) => {
      stream.respond({ ":status": 200, "content-type": "application/grpc" });
      stream.write(envelope(""));
      open++;
      if (open === count) {
        allOpen();
      }
    },
    { settings: { maxConcurrentStreams: 128 } },
  );
  const { client, connection } = connectTo(t, `127.0.0.1:${server.port}`);
  const stop = new AbortController();
  // Each call listens, in more than one place; beyond ten listeners Node warns of a leak.
  setMaxListeners(0, stop.signal);
  const calls = Array.from({ length: count }, async () => {
    let events = 0;
    const error = await failure(
      (async () => {
        for await (const _ of client.inferStream({ request: { prompt: "x" } }, { signal: stop.signal })) {
          events++;
        }
      })(),
    );
    return [events, error.code];
  });
  await reached;
  // A client has read its event when the process has looked for all that waited.
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  stop.abort();
  assert.equal(server.sessions.length, 4);
  const ends = await Promise.all(calls);
  assert.ok(ends.every(([, code]) => code === Code.Canceled));
  assert.equal((await connection.workers?.("throughline.v1.TextToImageWorkerService"))?.[0]?.inFlight, 0);
});

test("cancelled calls do not close a connection on which another call runs", async (t) => {
  let held: unknown;
  let finish = () => {};
  const server = await serveRaw(t, (stream) => {
    const { session } = stream;
    if (held === undefined) {
      held = session;
      finish = () => answerWith(stream, {}, [envelope("")], { "grpc-status": "0" });
      return;
    }
    stream.respond({ ":status": 200, "content-type": "application/grpc" });
    stream.write(envelope(""));
  });
  const { client } = connectTo(t, `127.0.0.1:${server.port}`);
  const innocent = client.infer({ prompt: "x" });
  while (held === undefined) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  // Node's servers end a connection after 1,000 at once.
  for (let i = 0; i < 1_500; i++) {
    const stop = new AbortController();
    await failure(
      (async () => {
        for await (const _ of client.inferStream({ request: { prompt: "y" } }, { signal: stop.signal })) {
          stop.abort();
        }
      })(),
    );
  }
  finish();
  await innocent;
  assert.deepEqual(
    server.sessions.filter((session) => session.closed || session.destroyed),
    [],
  );
});
