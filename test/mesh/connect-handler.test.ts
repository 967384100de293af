import assert from "node:assert/strict";
import { once } from "node:events";
import { suite, type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext, type Interceptor } from "@connectrpc/connect";
import {
  GenerateRequestSchema,
  GenerateResponseSchema,
  ImagePipelineService,
} from "../../src/gen/throughline/v1/pipeline_pb.js";
import { createConnectHandler } from "../../src/mesh/connect-handler.js";
import { unavailable } from "../../src/mesh/errors.js";
import { listen } from "../../src/mesh/listen.js";
import { errorOf } from "./support/error-of.js";
import { connectHttp2, connectTcp, envelope, http1, http2Request, postJson, readToEnd } from "./support/raw-http.js";
import { serveEcho } from "./support/serve-echo.js";

const generate = "/throughline.v1.ImagePipelineService/Generate";
const generateStream = "/throughline.v1.ImagePipelineService/GenerateStream";
const infer = "/throughline.v1.TextToImageWorkerService/Infer";

/** Notes the outcome of each call, as a tracing interceptor would. */
function recorder(): { readonly calls: string[]; readonly interceptor: Interceptor } {
  const calls: string[] = [];
  return {
    calls,
    interceptor: (next) => async (request) => {
      try {
        const response = await next(request);
        calls.push(`${request.method.name} ok`);
        return response;
      } catch (error) {
        calls.push(`${request.method.name} ${Code[ConnectError.from(error).code]}`);
        throw error;
      }
    },
  };
}

suite("JSON", () => {
  test("takes both spellings and unknown fields, answers in snake_case with implicit fields", async (t) => {
    const { url } = await serveEcho(t);
    for (const key of ["worker_app", "workerApp"]) {
      const body = JSON.stringify({ prompt: "a\u{1f496}", [key]: "a/b", options: { width: 64 }, unknown: [1] });
      const response = await postJson(url, generate, body);
      assert.equal(response.status, 200);
      assert.deepEqual(JSON.parse(response.text), {
        image: { url: "echo:2", content_type: "", file_name: "", file_size: 0, width: 64, height: 0 },
        trace_id: "",
        seed: 0,
        model: "echo",
        execution_provider: "",
        truncated_tokens: 0,
      });
    }
  });

  test("takes a carrier as the body's map", async (t) => {
    const { url } = await serveEcho(t);
    const body = '{"prompt":"x","trace_context":{"traceparent":"00-1-2-01","TraceState":"a=b"}}';
    assert.match((await postJson(url, infer, body)).text, /"model":"TraceState,traceparent"/);
  });
});

suite("a request that cannot be read", () => {
  const broken: readonly (readonly [json: string, message: string])[] = [
    ['{"prompt":"CANARY', "malformed JSON"],
    ['{"prompt":"x"} CANARY', "malformed JSON at position 15"],
    ['{"prompt":["CANARY"]}', "prompt: expected string"],
    ['{"prompt":"CANARY","options":{"seed":"CANARY"}}', "options.seed: expected uint32"],
    ['{"prompt":"CANARY","prompt":"CANARY"}', "prompt: set more than once"],
  ];
  const inStream = (json: string, message: string): readonly [string, string] => [
    `{"request":${json}}`,
    message.replace(/^(prompt|options)/, "request.$1").replace("position 15", "position 26"),
  ];
  const protocols: readonly (readonly [
    name: string,
    type: string,
    path: string,
    wrap: (json: string) => string | Buffer,
  ])[] = [
    ["Connect", "application/json", generate, (json) => json],
    ["Connect with a charset", "application/json; charset=utf-8", generate, (json) => json],
    ["Connect streaming", "application/connect+json", generateStream, (json) => envelope(json)],
    ["gRPC", "application/grpc+json", generate, (json) => envelope(json)],
    ["gRPC streaming", "application/grpc+json", generateStream, (json) => envelope(json)],
    ["gRPC-Web", "application/grpc-web+json", generate, (json) => envelope(json)],
  ];
  for (const [name, type, path, wrap] of protocols) {
    test(`is refused by field and type, is seen by interceptors, and is quoted nowhere: ${name}`, async (t) => {
      const { calls, interceptor } = recorder();
      const internal: unknown[] = [];
      const { url } = await serveEcho(t, {
        interceptors: [interceptor],
        behaviour: () => assert.fail("the handler ran"),
        onInternalError: (error) => internal.push(error),
      });
      const session = connectHttp2(t, url);
      const headers = { "content-type": type, te: "trailers" };
      for (const [unaryJson, unaryMessage] of broken) {
        const [json, message] = path === generateStream ? inStream(unaryJson, unaryMessage) : [unaryJson, unaryMessage];
        const responses = [
          await http2Request(session, path, { headers, body: wrap(json) }),
          await http1(url, path, { headers, body: wrap(json) }),
        ];
        for (const response of responses) {
          const error = errorOf(response);
          assert.equal(error.code, Code.InvalidArgument, json);
          // Where a text breaks off, the position depends on what is around it.
          if (message !== "malformed JSON") assert.equal(error.rawMessage, message);
          assert.doesNotMatch(JSON.stringify([response.text, response.headers, response.trailers]), /CANARY/);
        }
      }
      const method = path.slice(path.lastIndexOf("/") + 1);
      assert.deepEqual(
        calls,
        Array.from({ length: 2 * broken.length }, () => `${method} InvalidArgument`),
      );
      assert.deepEqual(internal, []);
    });
  }

  test("compressed, it is refused the same way", async (t) => {
    const { url } = await serveEcho(t);
    const body = gzipSync('{"prompt":["CANARY"]}');
    const headers = { "content-type": "application/json", "content-encoding": "gzip" };
    assert.equal(
      (await http1(url, generate, { headers, body })).text,
      '{"code":"invalid_argument","message":"prompt: expected string"}',
    );
    const grpc = { "content-type": "application/grpc+json", "grpc-encoding": "gzip", te: "trailers" };
    const response = await http2Request(connectHttp2(t, url), generate, { headers: grpc, body: envelope(body, 1) });
    assert.equal(errorOf(response).rawMessage, "prompt: expected string");
  });

  test("binary that does not decode is INVALID_ARGUMENT", async (t) => {
    const { url } = await serveEcho(t);
    const truncated = Buffer.from("0a7f43414e415259", "hex");
    const response = await http1(url, generate, { headers: { "content-type": "application/proto" }, body: truncated });
    assert.equal(response.status, 400);
    const error = errorOf(response);
    assert.equal(error.rawMessage, "malformed protobuf message, expected throughline.v1.GenerateRequest");
  });

  test("one envelope, whole and alone", async (t) => {
    const { url } = await serveEcho(t);
    const session = connectHttp2(t, url);
    const message = toBinary(GenerateRequestSchema, create(GenerateRequestSchema, { prompt: "x" }));
    const whole = envelope(message);
    const call = async (body: Buffer) => {
      const headers = { "content-type": "application/grpc", te: "trailers" };
      const { code, rawMessage } = errorOf(await http2Request(session, generate, { headers, body }));
      return `${Code[code] ?? "ok"}: ${rawMessage}`;
    };
    assert.equal(await call(whole), "ok: ");
    assert.equal(await call(Buffer.alloc(0)), "Unimplemented: protocol error: missing request message");
    assert.equal(
      await call(Buffer.concat([whole, whole])),
      "Unimplemented: protocol error: more than one request message",
    );
    assert.equal(await call(whole.subarray(0, 3)), "InvalidArgument: the message is incomplete");
    assert.equal(await call(whole.subarray(0, -1)), "InvalidArgument: the message is incomplete");
    assert.equal(await call(envelope(message, 1)), "Internal: the message is compressed, but no encoding is named");
    const claims5GiB = Buffer.from("00ffffffff00", "hex");
    assert.equal(await call(claims5GiB), "ResourceExhausted: the message is larger than the limit of 4194304 bytes");
  });

  test("streamed messages are checked one by one", async (t) => {
    const { url } = await serveEcho(t);
    const path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    const headers = { "content-type": "application/connect+json" };
    const body = Buffer.concat([envelope('{"list_services":""}'), envelope('{"list_services":["CANARY"]}')]);
    const response = await http2Request(connectHttp2(t, url), path, { headers, body });
    assert.match(response.text, /throughline\.v1\.ImagePipelineService/);
    assert.equal(errorOf(response).rawMessage, "list_services: expected string");
    assert.doesNotMatch(response.text, /CANARY/);
  });

  test("an unknown compression is UNIMPLEMENTED, naming those that are served", async (t) => {
    const { url } = await serveEcho(t);
    const response = await postJson(url, generate, "{}", { "content-encoding": "CANARY" });
    assert.equal(errorOf(response).rawMessage, "unknown compression: supported encodings are gzip,br");
    assert.equal(errorOf(response).code, Code.Unimplemented);
    assert.equal(response.headers["accept-encoding"], "gzip,br");
  });
});

suite("size", () => {
  const limit = 4_194_304;
  const prompt = (length: number) => `{"prompt":"${"x".repeat(length - 13)}"}`;

  test("4 MiB is read, and refused by its rule; one byte more is RESOURCE_EXHAUSTED", async (t) => {
    const { url } = await serveEcho(t);
    const session = connectHttp2(t, url);
    const headers = { "content-type": "application/json" };
    for (const send of [
      (body: string) => postJson(url, generate, body),
      (body: string) => http2Request(session, generate, { headers, body }),
    ]) {
      assert.equal(errorOf(await send(prompt(limit))).code, Code.InvalidArgument);
      const error = errorOf(await send(prompt(limit + 1)));
      assert.equal(error.code, Code.ResourceExhausted);
      assert.equal(error.rawMessage, "the message is larger than the limit of 4194304 bytes");
      assert.equal((await send('{"prompt":"x"}')).status, 200);
    }
  });

  test("what is far too large is refused before it is all read, and the connection lives on", async (t) => {
    const { url } = await serveEcho(t, { readMaxBytes: 1_000 });
    const session = connectHttp2(t, url);
    const body = Buffer.alloc(20_000_000, "x");
    for (const type of ["application/json", "application/grpc", "application/grpc-web+proto"]) {
      const response = await http2Request(session, generate, {
        headers: { "content-type": type, te: "trailers" },
        body,
      });
      assert.equal(errorOf(response).code, Code.ResourceExhausted, type);
    }
    assert.equal(
      (await http2Request(session, generate, { headers: { "content-type": "application/json" }, body: "{}" })).status,
      400,
    );
    assert.equal(errorOf(await postJson(url, generate, body.toString())).code, Code.ResourceExhausted);
  });

  test("a small body that unpacks to a large message is RESOURCE_EXHAUSTED", async (t) => {
    const { url } = await serveEcho(t);
    const body = gzipSync(prompt(50_000_000));
    assert.ok(body.length < 100_000);
    const headers = { "content-type": "application/json", "content-encoding": "gzip" };
    assert.equal(errorOf(await http1(url, generate, { headers, body })).code, Code.ResourceExhausted);
  });
});

suite("time", () => {
  test("a time limit that is not valid is INVALID_ARGUMENT", async (t) => {
    const { url } = await serveEcho(t);
    const connect = await postJson(url, generate, '{"prompt":"x"}', { "connect-timeout-ms": "CANARY" });
    assert.equal(errorOf(connect).rawMessage, "connect-timeout-ms: not a valid time limit");
    const headers = { "content-type": "application/grpc+json", "grpc-timeout": "CANARY", te: "trailers" };
    const grpc = await http2Request(connectHttp2(t, url), generate, { headers, body: envelope("{}") });
    assert.equal(errorOf(grpc).rawMessage, "grpc-timeout: not a valid time limit");
    assert.equal(errorOf(grpc).code, Code.InvalidArgument);
  });

  test("a very long one does not end at once", async (t) => {
    const { url } = await serveEcho(t, {
      behaviour: (_, context) => assert.ok(!context.signal.aborted && (context.timeoutMs() ?? 0) > 2_000_000_000),
    });
    assert.equal((await postJson(url, generate, '{"prompt":"x"}', { "connect-timeout-ms": "9999999999" })).status, 200);
    const headers = { "content-type": "application/grpc+json", "grpc-timeout": "99999999H", te: "trailers" };
    const body = envelope('{"prompt":"x"}');
    const response = await http2Request(connectHttp2(t, url), generate, { headers, body });
    assert.equal(response.trailers["grpc-status"], "0");
  });

  test("a body that does not arrive is DEADLINE_EXCEEDED, by the server's time or the caller's", async (t) => {
    const { url } = await serveEcho(t, { bodyTimeoutMs: 50 });
    const patient = await serveEcho(t);
    for (const [server, headers] of [
      [url, {}],
      [patient.url, { "connect-timeout-ms": "50" }],
    ] as const) {
      const stream = connectHttp2(t, server).request({
        ":method": "POST",
        ":path": generate,
        "content-type": "application/json",
        ...headers,
      });
      stream.write("{");
      const text = (await stream.toArray()).join("");
      assert.equal(text, '{"code":"deadline_exceeded","message":"the time ran out: waiting for the request\'s body"}');
    }
  });
});

suite("the handler's signal", () => {
  /** Serves calls that wait for their signal, and tells its reason. */
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

  test("aborts with CANCELED when an HTTP/1.1 client leaves", async (t) => {
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

  test("aborts with CANCELED when an HTTP/2 client resets its stream, or loses its connection", async (t) => {
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
      if (leave === "reset") stream.close(8);
      else session.destroy();
      assert.equal((await reason).code, Code.Canceled, leave);
    }
  });

  test("aborts with DEADLINE_EXCEEDED when the time runs out", async (t) => {
    const { url, reason } = await serveWaiting(t);
    const response = await postJson(url, generate, '{"prompt":"x"}', { "connect-timeout-ms": "30" });
    assert.equal((await reason).code, Code.DeadlineExceeded);
    assert.equal(errorOf(response).code, Code.DeadlineExceeded);
  });

  test("aborts with the server's reason when it shuts down", async (t) => {
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

suite("an error that is not for clients", () => {
  test("is INTERNAL for them, and whole for the log", async (t) => {
    const thrown = new TypeError("CANARY is not a function");
    const logged: unknown[] = [];
    const { url } = await serveEcho(t, {
      behaviour() {
        throw thrown;
      },
      onInternalError: (error, { method }) => logged.push(error, method),
    });
    const unary = await postJson(url, generate, '{"prompt":"x"}');
    assert.equal(unary.text, '{"code":"internal","message":"internal error"}');
    const headers = { "content-type": "application/connect+json" };
    const body = envelope('{"request":{"prompt":"x"}}');
    const streamed = await http2Request(connectHttp2(t, url), generateStream, { headers, body });
    assert.equal(errorOf(streamed).rawMessage, "internal error");
    assert.doesNotMatch(streamed.text, /CANARY/);
    assert.match(streamed.text, /queued/);
    assert.deepEqual(logged, [
      thrown,
      "throughline.v1.ImagePipelineService/Generate",
      thrown,
      "throughline.v1.ImagePipelineService/GenerateStream",
    ]);
  });

  test("may come from an interceptor", async (t) => {
    const thrown = new Error("CANARY");
    const logged: unknown[] = [];
    const { url } = await serveEcho(t, {
      interceptors: [() => () => Promise.reject(thrown)],
      onInternalError: (error) => logged.push(error),
    });
    const response = await postJson(url, generate, '{"prompt":"x"}');
    assert.equal(response.text, '{"code":"internal","message":"internal error"}');
    assert.deepEqual(logged, [thrown]);
  });
});

suite("other requests", () => {
  test("other paths go to the fallback, or get 404", async (t) => {
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

  test("other methods on an RPC get 405, other types 415", async (t) => {
    const { url } = await serveEcho(t);
    for (const method of ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"]) {
      const response = await http1(url, `${generate}?message={}`, { method });
      assert.equal(response.status, 405, method);
      assert.equal(response.headers.allow, "POST");
    }
    for (const type of ["text/plain", "application/grpc-web-text", "application/connect+json", "multipart/form-data"]) {
      assert.equal((await http1(url, generate, { headers: { "content-type": type }, body: "{}" })).status, 415, type);
    }
    assert.equal((await http1(url, generate, { body: "{}" })).status, 415);
    assert.equal((await postJson(url, generateStream, "{}")).status, 415);
  });

  test("a host that is no host gets 400, none at all is taken", async (t) => {
    const { port } = await serveEcho(t);
    for (const [lines, status] of [
      ["POST $ HTTP/1.1\r\nhost: [[[\r\nconnection: close\r\n", 400],
      ["POST $ HTTP/1.0\r\n", 200],
    ] as const) {
      const socket = await connectTcp(t, port);
      const head = lines.replace("$", generate);
      socket.write(`${head}content-type: application/json\r\ncontent-length: 14\r\n\r\n{"prompt":"x"}`);
      assert.match(await readToEnd(socket), new RegExp(`^HTTP/1.1 ${status} `));
    }
  });

  test("gRPC works over HTTP/1.1 too, as far as a client can read trailers", async (t) => {
    const { url } = await serveEcho(t);
    const message = toBinary(GenerateRequestSchema, create(GenerateRequestSchema, { prompt: "x" }));
    const headers = { "content-type": "application/grpc" };
    const response = await http1(url, generate, { headers, body: envelope(message) });
    assert.equal(response.trailers["grpc-status"], "0");
    assert.equal(fromBinary(GenerateResponseSchema, response.body.subarray(5)).model, "echo");
  });
});

suite("CORS", () => {
  const preflight = (origin: string) => ({
    method: "OPTIONS",
    headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type" },
  });

  test("is off by default", async (t) => {
    const { url } = await serveEcho(t);
    const response = await http1(url, generate, preflight("http://localhost:5173"));
    assert.equal(response.status, 405);
    assert.equal(response.headers["access-control-allow-origin"], undefined);
  });

  test("lets the listed origins in, and says what they may send and see", async (t) => {
    const { url } = await serveEcho(t, { cors: { origins: ["https://studio.example", "http://localhost:*"] } });
    for (const origin of ["https://studio.example", "http://localhost:5173", "http://localhost"]) {
      const asked = await http1(url, generate, preflight(origin));
      assert.equal(asked.status, 204);
      assert.equal(asked.headers["access-control-allow-origin"], origin);
      assert.match(String(asked.headers["access-control-allow-methods"]), /POST/);
      assert.match(String(asked.headers["access-control-allow-headers"]), /Connect-Protocol-Version.*traceparent/);
      const called = await postJson(url, generate, '{"prompt":"x"}', { origin });
      assert.equal(called.status, 200);
      assert.equal(called.headers["access-control-allow-origin"], origin);
      assert.match(String(called.headers["access-control-expose-headers"]), /Grpc-Status/i);
      assert.equal(called.headers.vary, "origin");
    }
    for (const origin of ["https://evil.example", "http://localhost.evil.example", "https://localhost:5173", "null"]) {
      const asked = await http1(url, generate, preflight(origin));
      assert.equal(asked.headers["access-control-allow-origin"], undefined, origin);
    }
  });

  test("lets any origin in where that is wanted, and covers the fallback", async (t) => {
    const { url } = await serveEcho(t, { cors: { origins: ["*"] } });
    const response = await http1(url, "/images/x.png", {
      method: "GET",
      headers: { origin: "https://anyone.example" },
    });
    assert.equal(response.headers["access-control-allow-origin"], "https://anyone.example");
  });
});

suite("a stream whose client does not read", () => {
  const types = ["application/grpc+json", "application/connect+json"];
  for (const [version, type] of [2, 1].flatMap((version) => types.map((type) => [version, type] as const))) {
    test(`is held back, and ends when the client leaves (HTTP/${version}, ${type})`, async (t) => {
      let sent = 0;
      let end: (how: string) => void = () => {};
      const ended = new Promise<string>((resolve) => {
        end = resolve;
      });
      const handler = createConnectHandler({
        routes(router) {
          router.service(ImagePipelineService, {
            async *generateStream(_, { signal }) {
              try {
                const preview = new Uint8Array(100_000);
                for (; ; sent++) yield { event: { case: "progress", value: { preview } } };
              } finally {
                end(Code[ConnectError.from(signal.reason).code] ?? "");
              }
            },
          });
        },
      });
      const { url, port, stop } = await listen({ port: 0, handler });
      t.after(() => stop({ graceMs: 0, cancelMs: 0 }));
      const body = envelope('{"request":{"prompt":"x"}}');
      if (version === 2) {
        const session = connectHttp2(t, url);
        const stream = session.request({ ":method": "POST", ":path": generateStream, "content-type": type });
        stream.on("error", () => {});
        stream.end(body);
        await once(stream, "response");
        session.destroy();
      } else {
        const socket = await connectTcp(t, port);
        socket.write(
          `POST ${generateStream} HTTP/1.1\r\nhost: x\r\ncontent-type: ${type}\r\ncontent-length: ${body.length}\r\n\r\n`,
        );
        socket.write(body);
        await once(socket, "readable");
        socket.destroy();
      }
      assert.equal(await ended, "Canceled");
      // Socket buffers take a few megabytes; without back-pressure there would be no end.
      assert.ok(sent < 1_000, `${sent} messages sent`);
    });
  }
});
