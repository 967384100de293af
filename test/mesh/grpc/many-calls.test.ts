import assert from "node:assert/strict";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import { failure } from "../support/grpc-client.js";
import { answerWith, envelope, serveRaw } from "../support/raw-grpc-server.js";
import { connectTo } from "../support/workers.js";

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
      stream.write(envelope(Buffer.alloc(0)));
      open++;
      if (open === count) {
        allOpen();
      }
    },
    { settings: { maxConcurrentStreams: 128 } },
  );
  const { client, connection } = connectTo(t, `127.0.0.1:${server.port}`);
  const stop = new AbortController();
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
      finish = () => answerWith(stream, {}, [Buffer.alloc(0)], { "grpc-status": "0" });
      return;
    }
    stream.respond({ ":status": 200, "content-type": "application/grpc" });
    stream.write(envelope(Buffer.alloc(0)));
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
