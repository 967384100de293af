import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError, createClient, createContextValues } from "@connectrpc/connect";
import { callDeadline } from "../../../src/app/call-deadline.js";
import { TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { connectApp } from "../../../src/mesh/balance/balanced-connection.js";
import { createAppDirectory } from "../../../src/mesh/directory/app-directory.js";
import { interceptTransport } from "../../../src/mesh/grpc/intercept-transport.js";
import { serveWorker } from "../support/workers.js";

test("where the time went is told, although the call's signal is aborted at the same time", async (t) => {
  const silent = await serveWorker(t);
  const entry = createAppDirectory({ apps: { "a/b": { target: `127.0.0.1:${silent.port}` } } }).lookUp("a/b");
  const connection = connectApp(entry);
  t.after(connection.close);
  const client = createClient(TextToImageWorkerService, interceptTransport(connection.transport, []));
  // The connection and the validators are made with the first call; a short deadline would go into that.
  await client.infer({ prompt: "a" });
  silent.behaviour = () => new Promise(() => {});
  const onward = () => {
    const { signal, remainingMs } = callDeadline({
      signal: new AbortController().signal,
      timeoutMs: () => 2_500,
      values: createContextValues(),
    });
    return { signal, ...(remainingMs !== undefined && { timeoutMs: remainingMs }) };
  };
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
      assert.match(rawMessage, /^the time ran out: waiting for the worker's /);
      return true;
    });
  }
});
