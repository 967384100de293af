import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:https";
import { join } from "node:path";
import { suite, type TestContext, test } from "node:test";
import { TextToImageWorkerService } from "../../src/gen/throughline/v1/worker_pb.js";
import { listen } from "../../src/mesh/port/listen.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { createAuthority } from "../support/certificates.js";
import { runInProcess } from "./support/run-in-process.js";
import { startCollector } from "./support/start-collector.js";

suite("errors for a pipeline that cannot be called", async () => {
  const out = join(await temporaryFolder(), "heart.png");
  const messageFor = async (server: string): Promise<string> => {
    const { code, message } = await runInProcess(["generate", "a heart", "--server", server, "--out", out]);
    assert.equal(code, 1);
    return message;
  };
  const startWorker = async (t: TestContext): Promise<string> => {
    const handler = createConnectHandler({ routes: ({ service }) => void service(TextToImageWorkerService, {}) });
    const listening = await listen({ handler, port: 0 });
    t.after(() => listening.stop({ graceMs: 0 }));
    return listening.url;
  };

  test("error when nothing listens says how to start a pipeline", async () => {
    assert.match(
      await messageFor("http://127.0.0.1:1"),
      /^cannot reach http:\/\/127\.0\.0\.1:1: .*ECONNREFUSED.* \(start one with `throughline dev`; --server names its URL\)$/,
    );
  });

  test("error for a worker or a collector says that it is not a pipeline", async (t) => {
    for (const url of [await startWorker(t), (await startCollector(t)).url]) {
      assert.match(
        await messageFor(url),
        /answered UNIMPLEMENTED: .* \(that is not a pipeline: --server names its URL\)$/,
      );
    }
  });

  test("because it has TLS: the error says to use https", async (t) => {
    const { cert, key } = await (await createAuthority()).issue();
    const server = createServer({ cert, key }).listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => server.close());
    const address = server.address();
    assert.ok(address !== null && typeof address === "object");
    const url = `http://127.0.0.1:${address.port}`;
    assert.match(await messageFor(url), /\(if the server has TLS, use https:\/\/ instead of http:\/\/\)$/);
  });

  test("error for a server without TLS says to use http", async (t) => {
    const url = (await startWorker(t)).replace("http:", "https:");
    assert.match(await messageFor(url), /\(the server has no TLS: use http:\/\/ instead of https:\/\/\)$/);
  });
});
