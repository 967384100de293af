import assert from "node:assert/strict";
import { once } from "node:events";
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
import { openRelay } from "../support/relay.js";
import { serveEcho } from "../support/serve-echo.js";

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
    const hole = await openRelay(t, port);
    const policies = { keepalive: { timeMs: 1_000, timeoutMs: 3_000 } };
    const client = createClient(TextToImageWorkerService, transportTo(t, `127.0.0.1:${hole.port}`, { policies }));
    const failed = failure(client.infer({ prompt: "x" }));
    await wait.began;
    hole.swallow();
    assert.equal((await failed).code, Code.Unavailable);
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
