import assert from "node:assert/strict";
import { once } from "node:events";
import { suite, type TestContext, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import { GenerateRequestSchema, GenerateResponseSchema } from "../../../src/gen/throughline/v1/pipeline_pb.js";
import { internal, unavailable } from "../../../src/mesh/errors/errors.js";
import { errorOf } from "../support/error-of.js";
import { connectHttp2, connectTcp, envelope, http1, http2Request, postJson, readToEnd } from "../support/raw-http.js";
import { type InternalFailure, recordInternal } from "../support/record-internal.js";
import { serveEcho } from "../support/serve-echo.js";

const generate = "/throughline.v1.ImagePipelineService/Generate";
const generateStream = "/throughline.v1.ImagePipelineService/GenerateStream";
const infer = "/throughline.v1.TextToImageWorkerService/Infer";

suite("JSON", () => {
  test("JSON accepts both field spellings, and responses use snake_case with implicit fields", async (t) => {
    const { url } = await serveEcho(t);
    for (const key of ["worker_app", "workerApp"]) {
      const body = JSON.stringify({ prompt: "a\u{1f496}", [key]: "a/b", options: { width: 64 } });
      const response = await postJson(url, generate, body);
      assert.equal(response.status, 200);
      assert.deepEqual(JSON.parse(response.text), {
        image: { url: "echo:2", content_type: "", file_name: "", file_size: 0, width: 64, height: 0, data: "" },
        trace_id: "",
        seed: 0,
        model: "echo",
        execution_provider: "",
        truncated_tokens: 0,
        defaults_reason: "",
      });
    }
  });

  test("unknown JSON field is rejected by default, and ignored with ignoreUnknownFields", async (t) => {
    const strict = await serveEcho(t);
    const lenient = await serveEcho(t, { ignoreUnknownFields: true });
    const body = '{"prompt":"x","sed":1}';
    const rejected = errorOf(await postJson(strict.url, generate, body));
    assert.equal(rejected.code, Code.InvalidArgument);
    assert.match(rejected.rawMessage, /key "sed" is unknown/);
    assert.equal((await postJson(lenient.url, generate, body)).status, 200);
  });

  test("JSON body carries the trace context as a map", async (t) => {
    const { url } = await serveEcho(t);
    const body = '{"prompt":"x","trace_context":{"traceparent":"00-1-2-01","TraceState":"a=b"}}';
    assert.match((await postJson(url, infer, body)).text, /"model":"TraceState,traceparent"/);
  });
});

suite("signal of a handler", () => {
  /** Serves calls that wait for their signal, and returns its reason. */
  async function serveWaiting(t: TestContext, shutdownSignal?: AbortSignal) {
    let began: (context: HandlerContext) => void = () => {};
    let ended: (reason: ConnectError) => void = () => {};
    const started = new Promise<HandlerContext>((resolve) => (began = resolve));
    const reason = new Promise<ConnectError>((resolve) => (ended = resolve));
    const server = await serveEcho(t, {
      ...(shutdownSignal && { shutdownSignal }),
      behaviour: (_, context) =>
        new Promise((_, reject) => {
          context.signal.addEventListener("abort", () => {
            ended(ConnectError.from(context.signal.reason));
            reject(context.signal.reason);
          });
          began(context);
        }),
    });
    return { ...server, started, reason };
  }

  test("signal aborts with CANCELED when an HTTP/1.1 client disconnects", async (t) => {
    const { port, started, reason } = await serveWaiting(t);
    const socket = await connectTcp(t, port);
    const body = '{"prompt":"x"}';
    socket.write(
      `POST ${generate} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await started;
    socket.destroy();
    assert.equal((await reason).code, Code.Canceled);
  });

  test("signal aborts with CANCELED for every pipelined call when an HTTP/1.1 client disconnects", async (t) => {
    const count = 5;
    let allStarted = () => {};
    const started = new Promise<void>((resolve) => (allStarted = resolve));
    const reasons: Promise<unknown>[] = [];
    const { port } = await serveEcho(t, {
      behaviour: (_, { signal }) => {
        reasons.push(once(signal, "abort").then(() => signal.reason));
        if (reasons.length === count) {
          allStarted();
        }
        return once(signal, "abort").then(() => {});
      },
    });
    const socket = await connectTcp(t, port);
    const body = '{"prompt":"x"}';
    const head = `POST ${generate} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}`;
    socket.write(`${head}\r\n\r\n${body}`.repeat(count));
    await started;
    socket.resetAndDestroy();
    for (const reason of await Promise.all(reasons)) {
      assert.equal(ConnectError.from(reason).code, Code.Canceled);
    }
  });

  test("signal aborts with CANCELED when an HTTP/2 client resets its stream or loses its connection", async (t) => {
    for (const leave of ["reset", "lose"] as const) {
      const { url, started, reason } = await serveWaiting(t);
      const session = connectHttp2(t, url);
      const stream = session.request({
        ":method": "POST",
        ":path": generateStream,
        "content-type": "application/connect+json",
      });
      stream.on("error", () => {});
      stream.end(envelope('{"request":{"prompt":"x"}}'));
      await started;
      if (leave === "reset") {
        stream.close(8);
      } else {
        session.destroy();
      }
      assert.equal((await reason).code, Code.Canceled, leave);
    }
  });

  test("signal aborts with DEADLINE_EXCEEDED at the deadline", async (t) => {
    const { url, reason } = await serveWaiting(t);
    const response = await postJson(url, generate, '{"prompt":"x"}', { "connect-timeout-ms": "2000" });
    assert.equal((await reason).code, Code.DeadlineExceeded);
    assert.equal(errorOf(response).code, Code.DeadlineExceeded);
  });

  test("signal aborts with the server's reason at shutdown", async (t) => {
    const shutdown = new AbortController();
    const { url, started } = await serveWaiting(t, shutdown.signal);
    const call = postJson(url, generate, '{"prompt":"x"}');
    await started;
    shutdown.abort(unavailable("shutting down"));
    const response = await call;
    assert.equal(response.status, 503);
    assert.equal(errorOf(response).rawMessage, "shutting down");
  });
});

suite("internal error", () => {
  test("internal error is masked for clients and complete for interceptors", async (t) => {
    const thrown = new TypeError("CANARY is not a function");
    const failures: InternalFailure[] = [];
    const { url } = await serveEcho(t, {
      behaviour() {
        throw thrown;
      },
      interceptors: [recordInternal(failures)],
      onInternalError: () => assert.fail("the answer was made"),
    });
    const unary = await postJson(url, generate, '{"prompt":"x"}');
    assert.equal(unary.text, '{"code":"internal","message":"internal error"}');
    const headers = { "content-type": "application/connect+json" };
    const body = envelope('{"request":{"prompt":"x"}}');
    const streamed = await http2Request(connectHttp2(t, url), generateStream, { headers, body });
    assert.equal(errorOf(streamed).rawMessage, "internal error");
    assert.doesNotMatch(streamed.text, /CANARY/);
    assert.match(streamed.text, /queued/);
    assert.deepEqual(failures, [
      { method: "Generate", hidden: thrown },
      { method: "GenerateStream", hidden: thrown },
    ]);
  });

  test("internal error from an interceptor is masked too", async (t) => {
    const thrown = new Error("CANARY");
    const failures: InternalFailure[] = [];
    const { url } = await serveEcho(t, {
      interceptors: [recordInternal(failures), () => () => Promise.reject(thrown)],
    });
    const response = await postJson(url, generate, '{"prompt":"x"}');
    assert.equal(response.text, '{"code":"internal","message":"internal error"}');
    assert.deepEqual(failures, [{ method: "Generate", hidden: thrown }]);
  });
});

suite("INTERNAL error with a message for clients", () => {
  const causes = [new RangeError("CANARY cannot be converted"), "CANARY"];
  for (const cause of causes) {
    test(`INTERNAL error does not reveal its cause: ${typeof cause}`, async (t) => {
      const failures: InternalFailure[] = [];
      const thrown = internal("the image cannot be kept", cause);
      const { url } = await serveEcho(t, {
        behaviour() {
          throw thrown;
        },
        interceptors: [recordInternal(failures)],
      });
      const response = await postJson(url, generate, '{"prompt":"x"}');
      assert.equal(response.text, '{"code":"internal","message":"the image cannot be kept"}');
      assert.deepEqual(failures, [{ method: "Generate", hidden: cause }]);
    });
  }

  test("INTERNAL error without a cause, or caused by a server's response, has nothing to mask", async (t) => {
    for (const cause of [undefined, internal("CANARY")]) {
      const failures: InternalFailure[] = [];
      const { url } = await serveEcho(t, {
        behaviour() {
          throw internal("in words", cause);
        },
        interceptors: [recordInternal(failures)],
      });
      assert.equal((await postJson(url, generate, '{"prompt":"x"}')).status, 500);
      assert.deepEqual(failures, []);
    }
  });
});

suite("other requests", () => {
  test("other paths go to the fallback handler or get 404", async (t) => {
    const plain = await serveEcho(t);
    assert.equal((await http1(plain.url, "/images/x.png", { method: "GET" })).status, 404);
    assert.equal(
      (await http2Request(connectHttp2(t, plain.url), "/throughline.v1.ImagePipelineService/Nope")).status,
      404,
    );
    const { url } = await serveEcho(t, {
      fallback: (request, response) => void response.end(`fallback ${request.url}`),
    });
    assert.equal((await http1(url, "/images/x.png?y", { method: "GET" })).text, "fallback /images/x.png?y");
    assert.equal((await http2Request(connectHttp2(t, url), "/", { method: "GET" })).text, "fallback /");
  });

  test("RPC path answers 405 to other methods and 415 to other content types", async (t) => {
    const { url } = await serveEcho(t);
    for (const method of ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"]) {
      const response = await http1(url, `${generate}?message={}`, { method });
      assert.equal(response.status, 405, method);
      assert.equal(response.headers.allow, "POST");
    }
    for (const type of ["text/plain", "application/grpc-web-text", "application/connect+json", "multipart/form-data"]) {
      assert.equal((await http1(url, generate, { headers: { "content-type": type }, body: "{}" })).status, 415, type);
    }
    const rejected = await http1(url, generate, { body: "{}" });
    assert.deepEqual([rejected.status, rejected.text], [415, "unsupported content type for this RPC\n"]);
    assert.equal((await postJson(url, generateStream, "{}")).status, 415);
  });

  test("invalid Host header gets 400, and a missing one is accepted", async (t) => {
    const { port } = await serveEcho(t);
    const withHost = (host: string) => `POST $ HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n`;
    for (const [lines, status] of [
      ["POST $ HTTP/1.0\r\n", 200],
      ...["x", "a.b-c_d.example:8080", "127.0.0.1:1", "[::1]:50051"].map((host) => [withHost(host), 200] as const),
      ...["[[[", 'evil"onx', "a b", "user@x", "x:port", "x:65536", "1.2.3.4.5", "[:::]", "x/y", "", "h\u00f6st"].map(
        (host) => [withHost(host), 400] as const,
      ),
    ] as const) {
      const socket = await connectTcp(t, port);
      const head = lines.replace("$", generate);
      socket.write(`${head}content-type: application/json\r\ncontent-length: 14\r\n\r\n{"prompt":"x"}`);
      assert.match(await readToEnd(socket), new RegExp(`^HTTP/1.1 ${status} `));
    }
  });

  test("invalid HTTP/2 authority gets 400", async (t) => {
    const { url } = await serveEcho(t);
    const headers = { ":authority": "user@x", "content-type": "application/json" };
    const answer = http2Request(connectHttp2(t, url), generate, { headers, body: '{"prompt":"x"}' });
    // Newer versions of Node reject it themselves, before any handler sees it.
    const result = await answer.then(
      ({ status, text }) => `${status} ${text}`,
      (error: NodeJS.ErrnoException) => String(error.code),
    );
    assert.match(result, /^(?:400 the request's host is not valid\n|ERR_HTTP2_STREAM_ERROR)$/);
  });

  test("gRPC works over HTTP/1.1 for a client that reads trailers", async (t) => {
    const { url } = await serveEcho(t);
    const message = toBinary(GenerateRequestSchema, create(GenerateRequestSchema, { prompt: "x" }));
    const headers = { "content-type": "application/grpc" };
    const response = await http1(url, generate, { headers, body: envelope(message) });
    assert.equal(response.trailers["grpc-status"], "0");
    assert.equal(fromBinary(GenerateResponseSchema, response.body.subarray(5)).model, "echo");
  });
});
