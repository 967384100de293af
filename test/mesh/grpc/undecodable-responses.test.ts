import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, createClient } from "@connectrpc/connect";
import { TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { failure, kinds, transportTo } from "../support/grpc-client.js";
import { answerWith, serveRaw } from "../support/raw-grpc-server.js";
import { envelope } from "../support/raw-http.js";

for (const [kind, call] of Object.entries(kinds)) {
  for (const encoding of ["zip-zap", undefined]) {
    const how = encoding === undefined ? "whose compression is not named" : "in an unknown compression";
    test(`${kind} response ${how} is INTERNAL`, async (t) => {
      const header = encoding === undefined ? {} : { "grpc-encoding": encoding };
      const { port } = await serveRaw(t, (stream) =>
        answerWith(stream, header, [envelope("x", 1)], { "grpc-status": "0" }),
      );
      const client = createClient(TextToImageWorkerService, transportTo(t, `127.0.0.1:${port}`));
      const error = await failure(call(client));
      assert.equal(error.code, Code.Internal);
      assert.match(error.rawMessage, /compress/);
    });
  }
}
