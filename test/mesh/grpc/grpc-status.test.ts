import assert from "node:assert/strict";
import { constants } from "node:http2";
import { suite, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { failure, kinds } from "../support/grpc-client.js";
import { answerWith, serveRaw, trailersOnly } from "../support/raw-grpc-server.js";
import { envelope } from "../support/raw-http.js";
import { connectTo, quick } from "../support/workers.js";

const one = { ...quick, retry: { maxAttempts: 1 } };
const target = ({ port }: { readonly port: number }) => `127.0.0.1:${port}`;

suite("HTTP response that is not gRPC", () => {
  // https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
  const table: readonly (readonly [status: number, code: Code])[] = [
    [400, Code.Internal],
    [401, Code.Unauthenticated],
    [403, Code.PermissionDenied],
    [404, Code.Unimplemented],
    [429, Code.Unavailable],
    [500, Code.Unknown],
    [502, Code.Unavailable],
    [503, Code.Unavailable],
    [504, Code.Unavailable],
  ];
  for (const [status, code] of table) {
    test(`HTTP ${status} is ${Code[code]}, and only its status decides whether it is retried`, async (t) => {
      const server = await serveRaw(t, (stream) => {
        stream.respond({ ":status": status, "content-type": "text/html", "content-length": 4, "x-proxy": "yes" });
        stream.end("oops");
      });
      const { client } = connectTo(t, target(server));
      const error = await failure(kinds.unary(client));
      assert.equal(error.code, code);
      assert.equal(error.rawMessage, `Received HTTP status code ${status}`);
      assert.deepEqual([...error.metadata], [], "a proxy's fields are about its own response");
      assert.equal(server.calls, code === Code.Unavailable ? 4 : 1);
    });
  }
});

suite("status from a server", () => {
  test("UNAVAILABLE message of a single replica without health service is returned after all attempts", async (t) => {
    const server = await serveRaw(t, (stream) =>
      trailersOnly(stream, { "grpc-status": "14", "grpc-message": "being moved", "x-where": "eu" }),
    );
    const { client, attempts, observed } = connectTo(t, target(server));
    const error = await failure(kinds.unary(client, observed()));
    assert.deepEqual([error.code, error.rawMessage], [Code.Unavailable, "being moved"]);
    assert.deepEqual([...error.metadata], [["x-where", "eu"]]);
    assert.equal(server.calls, 4);
    assert.deepEqual(
      attempts.map(({ retryReason }) => retryReason),
      [...Array(3).fill("the worker is not available"), undefined],
    );
  });

  test("DEADLINE_EXCEEDED message of a server is kept, with or without a deadline of the caller", async (t) => {
    const server = await serveRaw(t, (stream) =>
      trailersOnly(stream, { "grpc-status": "4", "grpc-message": "my own budget" }),
    );
    const { client } = connectTo(t, target(server));
    for (const options of [{}, { timeoutMs: 60_000 }]) {
      const error = await failure(kinds.unary(client, options));
      assert.deepEqual([error.code, error.rawMessage], [Code.DeadlineExceeded, "my own budget"]);
    }
  });

  test("error carries the server's headers and trailers without the HTTP fields", async (t) => {
    const server = await serveRaw(t, (stream) =>
      answerWith(stream, { "x-header": "1", date: "now" }, [], {
        "grpc-status": "9",
        "grpc-message": "no",
        "x-trailer": "2",
      }),
    );
    const { client } = connectTo(t, target(server));
    for (const call of Object.values(kinds)) {
      const error = await failure(call(client));
      assert.deepEqual([error.code, error.rawMessage], [Code.FailedPrecondition, "no"]);
      assert.deepEqual(
        [...error.metadata],
        [
          ["x-header", "1"],
          ["x-trailer", "2"],
        ],
      );
    }
  });

  test("status of a server that sends GOAWAY is kept", async (t) => {
    const server = await serveRaw(t, (stream) => {
      stream.session?.goaway(constants.NGHTTP2_NO_ERROR);
      answerWith(stream, {}, [], { "grpc-status": "14", "grpc-message": "shutting down" });
    });
    const { client } = connectTo(t, target(server), one);
    for (const call of Object.values(kinds)) {
      assert.equal((await failure(call(client))).message, "[unavailable] shutting down");
    }
  });

  test("unknown status number is UNKNOWN, and unreadable details are dropped", async (t) => {
    let status = "0";
    const server = await serveRaw(t, (stream) =>
      trailersOnly(stream, { "grpc-status": status, "grpc-message": "odd", "grpc-status-details-bin": "////" }),
    );
    const { client } = connectTo(t, target(server), one);
    for (status of ["17", "-1", "x"]) {
      const error = await failure(kinds.unary(client));
      assert.deepEqual([error.code, error.rawMessage, error.details], [Code.Unknown, "odd", []]);
    }
  });
});

suite("stream without a status", () => {
  test("stream without a status is UNAVAILABLE when its connection is lost, and otherwise INTERNAL", async (t) => {
    let isLost = true;
    const server = await serveRaw(t, (stream) => {
      if (isLost) {
        stream.session?.destroy();
      } else {
        stream.close(constants.NGHTTP2_NO_ERROR);
      }
    });
    const { client } = connectTo(t, target(server), one);
    const lost = await failure(kinds.unary(client));
    assert.deepEqual([lost.code, lost.rawMessage], [Code.Unavailable, "the connection to the server was lost"]);
    isLost = false;
    let reset = await failure(kinds.unary(client));
    while (reset.code === Code.Unavailable) {
      // The replica was seen to be lost, and is looked for again.
      await new Promise((resolve) => setImmediate(resolve));
      reset = await failure(kinds.unary(client));
    }
    assert.equal(reset.code, Code.Internal);
  });

  test("stream that the server resets at the deadline is DEADLINE_EXCEEDED", async (t) => {
    const server = await serveRaw(t, (stream, headers) => {
      const timeoutMs = Number.parseInt(String(headers["grpc-timeout"]), 10);
      assert.ok(timeoutMs > 0);
      const endsAt = performance.now() + timeoutMs + 5;
      const reset = () => (performance.now() < endsAt ? setImmediate(reset) : stream.close(constants.NGHTTP2_CANCEL));
      reset();
    });
    const { client } = connectTo(t, target(server), one);
    for (let i = 0; i < 20; i++) {
      assert.equal((await failure(kinds.unary(client, { timeoutMs: 50 }))).code, Code.DeadlineExceeded);
    }
  });
});

suite("responses that break the protocol", () => {
  test("response with an unknown compression is INTERNAL", async (t) => {
    const server = await serveRaw(t, (stream) => {
      stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-encoding": "snow" });
      stream.end(envelope("x", 1));
    });
    const { client } = connectTo(t, target(server), one);
    assert.equal((await failure(kinds.unary(client))).code, Code.Internal);
  });

  test("undecodable response message is INTERNAL; two messages or none are UNIMPLEMENTED", async (t) => {
    let messages: readonly Buffer[] = [Buffer.from("ffffff", "hex")];
    const server = await serveRaw(t, (stream) =>
      answerWith(
        stream,
        {},
        messages.map((message) => envelope(message)),
        { "grpc-status": "0" },
      ),
    );
    const { client } = connectTo(t, target(server), one);
    assert.equal((await failure(kinds.unary(client))).code, Code.Internal);
    for (messages of [[], [Buffer.alloc(0), Buffer.alloc(0)]]) {
      assert.equal((await failure(kinds.unary(client))).code, Code.Unimplemented);
    }
  });
});
