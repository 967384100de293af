import assert from "node:assert/strict";
import http2 from "node:http2";
import { test } from "node:test";
import { Code, createClient } from "@connectrpc/connect";
import { TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { listenOnLoopback } from "../../support/listen-on-loopback.js";
import { failure, kinds, transportTo } from "../support/grpc-client.js";
import { envelope } from "../support/raw-http.js";

for (const [kind, call] of Object.entries(kinds)) {
  for (const encoding of ["zip-zap", undefined]) {
    const how = encoding === undefined ? "whose compression is not named" : "in an unknown compression";
    test(`${kind} response ${how} is INTERNAL`, async (t) => {
      const server = http2.createServer();
      t.after(() => server.close());
      server.on("stream", (stream, headers) => {
        if (headers[":path"]?.startsWith("/grpc.health.v1.Health/")) {
          stream.respond(
            { ":status": 200, "content-type": "application/grpc", "grpc-status": "12" },
            { endStream: true },
          );
          return;
        }
        const named = encoding !== undefined && { "grpc-encoding": encoding };
        stream.respond({ ":status": 200, "content-type": "application/grpc", ...named }, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
        stream.end(envelope("x", 1));
      });
      const { port } = await listenOnLoopback(t, server);
      const client = createClient(TextToImageWorkerService, transportTo(t, `127.0.0.1:${port}`));
      const error = await failure(call(client));
      assert.equal(error.code, Code.Internal);
      assert.match(error.rawMessage, /compress/);
    });
  }
}
