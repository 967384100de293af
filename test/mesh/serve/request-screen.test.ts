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
        interceptors: [recordInternal(internal), interceptor],
        behaviour: () => assert.fail("the handler ran"),
        onBroken: (error) => internal.push(error),
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
          if (message !== "malformed JSON") {
            assert.equal(error.rawMessage, message);
          }
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

  test("compressed data that breaks off, or is none, is INVALID_ARGUMENT", async (t) => {
    const { url } = await serveEcho(t);
    const json = '{"prompt":"CANARY"}';
    for (const [name, whole] of [
      ["gzip", gzipSync(json)],
      ["br", brotliCompressSync(json)],
    ] as const) {
      for (const body of [whole.subarray(0, 6), whole.subarray(0, -5), Buffer.from("CANARY CANARY")]) {
        const headers = { "content-type": "application/json", "content-encoding": name };
        const response = await http1(url, generate, { headers, body });
        assert.equal(response.status, 400);
        assert.equal(response.text, `{"code":"invalid_argument","message":"malformed ${name} data"}`);
      }
    }
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
