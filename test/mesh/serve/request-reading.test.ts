import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { GenerateRequestSchema } from "../../../src/gen/throughline/v1/pipeline_pb.js";
import { errorOf } from "../support/error-of.js";
import { connectHttp2, envelope, http1, http2Request, postJson } from "../support/raw-http.js";
import { recordInternal } from "../support/record-internal.js";
import { serveEcho } from "../support/serve-echo.js";

const generate = "/throughline.v1.ImagePipelineService/Generate";
const infer = "/throughline.v1.TextToImageWorkerService/Infer";
const generateStream = "/throughline.v1.ImagePipelineService/GenerateStream";

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

suite("unreadable request", () => {
  const broken: readonly (readonly [json: string, message: RegExp])[] = [
    ['{"prompt":"x', /JSON/],
    ['{"prompt":"x"} x', /JSON/],
    ['{"prompt":["x"]}', /prompt.* expected string/],
    ['{"prompt":"x","options":{"seed":"y"}}', /seed/],
    ['{"prompt":"x","sed":1}', /key "sed" is unknown/],
  ];
  const protocols: readonly (readonly [
    name: string,
    type: string,
    path: string,
    wrap: (json: string) => string | Buffer,
  ])[] = [
    ["Connect", "application/json", generate, (json) => json],
    ["Connect with a charset", "application/json; charset=utf-8", generate, (json) => json],
    ["Connect streaming", "application/connect+json", generateStream, (json) => envelope(`{"request":${json}}`)],
    ["gRPC", "application/grpc+json", generate, (json) => envelope(json)],
    ["gRPC streaming", "application/grpc+json", generateStream, (json) => envelope(`{"request":${json}}`)],
    ["gRPC-Web", "application/grpc-web+json", generate, (json) => envelope(json)],
  ];
  for (const [name, type, path, wrap] of protocols) {
    const seen =
      path === generateStream ? "is seen by interceptors" : "is reported with its code, and seen by no interceptor";
    test(`unreadable request is INVALID_ARGUMENT with Connect's message, and ${seen}: ${name}`, async (t) => {
      const { calls, interceptor } = recorder();
      const unread: string[] = [];
      const internal: unknown[] = [];
      const { url } = await serveEcho(t, {
        interceptors: [recordInternal(internal), interceptor],
        behaviour: () => assert.fail("the handler ran"),
        onInternalError: (error) => internal.push(error),
        onUndecodable: (method, code) => unread.push(`${method.name} ${Code[code]}`),
      });
      const session = connectHttp2(t, url);
      const headers = { "content-type": type, te: "trailers" };
      for (const [json, message] of broken) {
        const responses = [
          await http2Request(session, path, { headers, body: wrap(json) }),
          await http1(url, path, { headers, body: wrap(json) }),
        ];
        for (const response of responses) {
          const error = errorOf(response);
          assert.equal(error.code, Code.InvalidArgument, json);
          assert.match(error.rawMessage, message);
        }
      }
      const method = path.slice(path.lastIndexOf("/") + 1);
      const expected = Array.from({ length: 2 * broken.length }, () => `${method} InvalidArgument`);
      assert.deepEqual(path === generateStream ? [calls, unread] : [unread, calls], [expected, []]);
      assert.deepEqual(internal, []);
    });
  }

  test("truncated or invalid compressed data is INVALID_ARGUMENT", async (t) => {
    const { url } = await serveEcho(t);
    const json = '{"prompt":"CANARY"}';
    for (const [name, whole] of [
      ["gzip", gzipSync(json)],
      ["br", brotliCompressSync(json)],
    ] as const) {
      for (const body of [whole.subarray(0, 6), whole.subarray(0, -5), Buffer.from("CANARY CANARY")]) {
        const headers = { "content-type": "application/json", "content-encoding": name };
        const response = await http1(url, generate, { headers, body });
        assert.equal(errorOf(response).code, Code.InvalidArgument, `${name} ${body.length}`);
      }
    }
  });

  test("undecodable binary is INVALID_ARGUMENT in every protocol", async (t) => {
    const unread: string[] = [];
    const { url } = await serveEcho(t, {
      onUndecodable: (method, code) => unread.push(`${method.name} ${Code[code]}`),
    });
    const session = connectHttp2(t, url);
    const truncated = Buffer.from("0a7f43414e415259", "hex");
    const wrapped = envelope(truncated);
    for (const [type, path, body] of [
      ["application/proto", generate, truncated],
      ["application/grpc", generate, wrapped],
      ["application/grpc-web+proto", generate, wrapped],
      ["application/grpc", generateStream, wrapped],
      ["application/connect+proto", generateStream, wrapped],
    ] as const) {
      const response = await http2Request(session, path, { headers: { "content-type": type, te: "trailers" }, body });
      assert.equal(errorOf(response).code, Code.InvalidArgument, `${type} ${path}`);
    }
    assert.deepEqual(unread, Array(3).fill("Generate InvalidArgument"));
  });

  test("unary request must be exactly one complete envelope", async (t) => {
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
    assert.equal(await call(Buffer.alloc(0)), "Unimplemented: protocol error: missing input message for unary method");
    assert.equal(
      await call(Buffer.concat([whole, whole])),
      "Unimplemented: protocol error: received extra input message for unary method",
    );
    assert.equal(await call(whole.subarray(0, 3)), "InvalidArgument: the message is incomplete");
    assert.equal(await call(whole.subarray(0, -1)), "InvalidArgument: the message is incomplete");
    assert.equal(await call(envelope(message, 1)), "Internal: the message is compressed, but no encoding is named");
    const claims5GiB = Buffer.from("00ffffffff00", "hex");
    assert.equal(
      await call(claims5GiB),
      "ResourceExhausted: the message is larger than the limit of 4194304 bytes; send less, such as a smaller image",
    );
  });

  test("streamed messages are read one by one", async (t) => {
    const { url } = await serveEcho(t);
    const path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    const headers = { "content-type": "application/connect+json" };
    const body = Buffer.concat([envelope('{"list_services":""}'), envelope('{"list_services":["x"]}')]);
    const response = await http2Request(connectHttp2(t, url), path, { headers, body });
    assert.match(response.text, /throughline\.v1\.ImagePipelineService/);
    assert.equal(errorOf(response).code, Code.InvalidArgument);
    assert.match(errorOf(response).rawMessage, /list_services.*expected string/);
  });

  test("unknown compression is UNIMPLEMENTED and the error lists the supported ones", async (t) => {
    const { url } = await serveEcho(t);
    const response = await postJson(url, generate, "{}", { "content-encoding": "CANARY" });
    assert.match(errorOf(response).rawMessage, /^unknown compression .*: supported encodings are gzip,br$/);
    assert.equal(errorOf(response).code, Code.Unimplemented);
    assert.equal(response.headers["accept-encoding"], "gzip,br");
  });
});

suite("request size", () => {
  const limit = 4_194_304;
  const prompt = (length: number) => `{"prompt":"${"x".repeat(length - 13)}"}`;

  test("request of 4 MiB is read and validated; one byte more is RESOURCE_EXHAUSTED", async (t) => {
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
      assert.match(error.rawMessage, /larger than .* 4194304/);
      assert.equal((await send('{"prompt":"x"}')).status, 200);
    }
  });

  test("request far over the limit is rejected, and the connection stays open", async (t) => {
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

  test("deep nesting and a map of thousands within the limit are INVALID_ARGUMENT", async (t) => {
    const { url } = await serveEcho(t);
    const pairs = Object.fromEntries(Array.from({ length: 50_000 }, (_, i) => [`k${i}`, ""]));
    for (const [path, body] of [
      [generate, `{"prompt":${"[".repeat(1_000_000)}`],
      [generate, `{"prompt":${"[".repeat(500_000)}${"]".repeat(500_000)}}`],
      [infer, JSON.stringify({ prompt: "x", trace_context: pairs })],
    ] as const) {
      assert.equal(errorOf(await postJson(url, path, body)).code, Code.InvalidArgument);
    }
    assert.equal((await postJson(url, generate, '{"prompt":"x"}')).status, 200);
  });

  test("small body that unpacks to a large message is RESOURCE_EXHAUSTED", async (t) => {
    const { url } = await serveEcho(t);
    const body = gzipSync(prompt(50_000_000));
    assert.ok(body.length < 100_000);
    const headers = { "content-type": "application/json", "content-encoding": "gzip" };
    assert.equal(errorOf(await http1(url, generate, { headers, body })).code, Code.ResourceExhausted);
  });
});

suite("request timeouts", () => {
  test("invalid timeout header is INVALID_ARGUMENT", async (t) => {
    const { url } = await serveEcho(t);
    const connect = await postJson(url, generate, '{"prompt":"x"}', { "connect-timeout-ms": "CANARY" });
    assert.equal(errorOf(connect).code, Code.InvalidArgument);
    const headers = { "content-type": "application/grpc+json", "grpc-timeout": "CANARY", te: "trailers" };
    const grpc = await http2Request(connectHttp2(t, url), generate, { headers, body: envelope("{}") });
    assert.equal(errorOf(grpc).code, Code.InvalidArgument);
  });

  test("very long timeout does not expire at once", async (t) => {
    const { url } = await serveEcho(t, {
      behaviour: (_, context) => assert.ok(!context.signal.aborted && (context.timeoutMs() ?? 0) > 2_000_000_000),
    });
    assert.equal((await postJson(url, generate, '{"prompt":"x"}', { "connect-timeout-ms": "9999999999" })).status, 200);
    const headers = { "content-type": "application/grpc+json", "grpc-timeout": "99999999H", te: "trailers" };
    const body = envelope('{"prompt":"x"}');
    const response = await http2Request(connectHttp2(t, url), generate, { headers, body });
    assert.equal(response.trailers["grpc-status"], "0");
  });

  test("body that does not arrive is DEADLINE_EXCEEDED by the server's timeout or the caller's", async (t) => {
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
      assert.equal(text, '{"code":"deadline_exceeded","message":"deadline exceeded: waiting for the request\'s body"}');
    }
  });
});
