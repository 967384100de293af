import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError, createClient, createContextValues } from "@connectrpc/connect";
import { onwardCall } from "../../../src/app/call-deadline.js";
import { TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { connectApp } from "../../../src/mesh/balance/connect-app.js";
import { createAppDirectory } from "../../../src/mesh/directory/app-directory.js";
import { openRelay } from "../support/relay.js";
import { serveWorker } from "../support/workers.js";

test("deadline error of a call to another app says where the time was spent", async (t) => {
  const silent = await serveWorker(t);
  const hole = await openRelay(t, silent.port);
  const entry = createAppDirectory({ apps: { "a/b": { target: `127.0.0.1:${hole.port}` } } }).lookUp("a/b");
  const connection = connectApp(entry);
  t.after(connection.close);
  const client = createClient(TextToImageWorkerService, connection.transport);
  // The connection and the validators are made with the first call; a short deadline would go into that.
  await client.infer({ prompt: "a" });
  hole.swallow();
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
      assert.match(rawMessage, /^the time ran out: waiting for the worker's /);
      return true;
    });
  }
});
