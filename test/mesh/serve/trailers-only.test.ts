import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { ImagePipelineService } from "../../../src/gen/throughline/v1/pipeline_pb.js";
import { queueFull, retryDelayMsOf, unavailable } from "../../../src/mesh/errors/errors.js";
import { openStockTransport } from "../../support/stock-transport.js";
import { connectHttp2, envelope, http2Request } from "../support/raw-http.js";
import { serveEcho } from "../support/serve-echo.js";

const headers = { "content-type": "application/grpc+json", te: "trailers" };
const generate = "/throughline.v1.ImagePipelineService/Generate";
const generateStream = "/throughline.v1.ImagePipelineService/GenerateStream";

suite("frames of a response", () => {
  const fail = () => {
    throw queueFull("the queue is full", 1_500);
  };

  test("gRPC call that fails before its first message is one HEADERS frame", async (t) => {
    const { url } = await serveEcho(t, { behaviour: fail });
    const session = connectHttp2(t, url);
    const response = await http2Request(session, generate, { headers, body: envelope('{"prompt":"x"}') });
    assert.equal(response.status, 200);
    assert.equal(response.headersOnly, true);
    assert.equal(response.headers["content-type"], "application/grpc+json");
    assert.equal(response.headers["grpc-status"], "8");
    assert.equal(response.headers["grpc-message"], "the queue is full");
    assert.equal(response.headers["grpc-retry-pushback-ms"], "0");
    assert.ok(response.headers["grpc-status-details-bin"]);
    assert.equal(response.body.length, 0);
    const rejected = await http2Request(session, generateStream, { headers, body: envelope("{}") });
    assert.equal(rejected.headersOnly, true);
    assert.equal(rejected.headers["grpc-status"], "3");
  });

  test("headers set by a handler before it failed have a frame of their own", async (t) => {
    const { url } = await serveEcho(t, {
      behaviour(_, context) {
        context.responseHeader.set("x-set-before", "yes");
        return fail();
      },
    });
    const session = connectHttp2(t, url);
    for (const [path, body] of [
      [generate, '{"prompt":"x"}'],
      ["/throughline.v1.TextToImageWorkerService/Infer", '{"prompt":"x"}'],
    ] as const) {
      const response = await http2Request(session, path, { headers, body: envelope(body) });
      assert.equal(response.headersOnly, false);
      assert.equal(response.headers["x-set-before"], "yes");
      assert.equal(response.headers["grpc-status"], undefined);
      assert.equal(response.trailers["grpc-status"], "8");
    }
  });

  test("gRPC call that fails later, or succeeds, ends with trailers", async (t) => {
    const { url } = await serveEcho(t, { behaviour: (prompt) => (prompt === "fail" ? fail() : undefined) });
    const session = connectHttp2(t, url);
    const failed = await http2Request(session, generateStream, {
      headers,
      body: envelope('{"request":{"prompt":"fail"}}'),
    });
    assert.equal(failed.headersOnly, false);
    assert.match(failed.text, /queued/);
    assert.equal(failed.trailers["grpc-status"], "8");
    const fine = await http2Request(session, generate, { headers, body: envelope('{"prompt":"x"}') });
    assert.equal(fine.headersOnly, false);
    assert.equal(fine.trailers["grpc-status"], "0");
  });

  test("gRPC-Web and Connect errors keep their own form", async (t) => {
    const { url } = await serveEcho(t, { behaviour: fail });
    const session = connectHttp2(t, url);
    const body = envelope('{"prompt":"x"}');
    const web = await http2Request(session, generate, {
      headers: { "content-type": "application/grpc-web+json" },
      body,
    });
    assert.match(web.text, /grpc-status: 8/i);
    const connect = await http2Request(session, generate, {
      headers: { "content-type": "application/json" },
      body: '{"prompt":"x"}',
    });
    assert.equal(connect.status, 429);
  });
});

suite("retries of a gRPC client", () => {
  const serviceConfig = JSON.stringify({
    loadBalancingConfig: [{ pick_first: {} }],
    methodConfig: [
      {
        name: [{}],
        retryPolicy: {
          maxAttempts: 4,
          initialBackoff: "0.01s",
          maxBackoff: "0.01s",
          backoffMultiplier: 1,
          retryableStatusCodes: ["UNAVAILABLE"],
        },
      },
    ],
  });

  test("gRPC client retries until one attempt succeeds or the attempts are used up", async (t) => {
    let failures = 0;
    let calls = 0;
    const { port } = await serveEcho(t, {
      behaviour() {
        calls++;
        if (failures-- > 0) {
          throw unavailable("the engine is starting");
        }
      },
    });
    const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
      "grpc.service_config": serviceConfig,
    });
    t.after(() => client.close());
    const { input, output } = ImagePipelineService.method.generate;
    const callGenerate = (): Promise<string | undefined> =>
      new Promise((resolve, reject) => {
        client.makeUnaryRequest(
          generate,
          (prompt: string) => Buffer.from(toBinary(input, create(input, { prompt }))),
          (bytes) => fromBinary(output, bytes),
          "x",
          (error, response) => (error === null ? resolve(response?.model) : reject(error)),
        );
      });

    failures = 2;
    assert.equal(await callGenerate(), "echo");
    assert.equal(calls, 3);
    failures = 9;
    calls = 0;
    await assert.rejects(callGenerate(), { code: grpc.status.UNAVAILABLE, details: "the engine is starting" });
    assert.equal(calls, 4);
  });
});

suite("plain grpc-js client", () => {
  /** Makes one call without anything of Connect on the client's side, and gives its status. */
  function call(
    t: TestContext,
    port: number,
    method: string,
  ): Promise<{ status: grpc.StatusObject; messages: number }> {
    const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
      "grpc.service_config": JSON.stringify({
        methodConfig: [
          {
            name: [{}],
            retryPolicy: {
              maxAttempts: 5,
              // Only a push-back of 0 makes it quick.
              initialBackoff: "100s",
              maxBackoff: "100s",
              backoffMultiplier: 1,
              retryableStatusCodes: ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
          },
        ],
      }),
    });
    t.after(() => client.close());
    const bytes = (value: Buffer) => value;
    // An empty message of each kind, which the echo without validation takes.
    const stream = client.makeServerStreamRequest(method, bytes, bytes, Buffer.alloc(0));
    let messages = 0;
    stream.on("data", () => messages++);
    stream.on("error", () => {});
    return new Promise((resolve) => stream.on("status", (status: grpc.StatusObject) => resolve({ status, messages })));
  }

  for (const [what, method] of [
    ["a unary call", generate],
    ["a stream", generateStream],
  ] as const) {
    test(`grpc-js client retries ${what} that a full server rejects, and never after its first message`, async (t) => {
      let calls = 0;
      const reject = (times: number) => {
        if (++calls <= times) {
          throw queueFull("the queue is full", 5_000);
        }
      };
      const { port } = await serveEcho(t, {
        routes(router) {
          router.service(ImagePipelineService, {
            generate() {
              reject(3);
              return {};
            },
            async *generateStream() {
              reject(3);
              yield {};
              reject(5);
            },
          });
        },
        validated: false,
      });
      const first = await call(t, port, method);
      if (method === generate) {
        assert.deepEqual([first.status.code, first.messages, calls], [grpc.status.OK, 1, 4]);
      } else {
        assert.deepEqual([first.status.code, first.messages, calls], [grpc.status.RESOURCE_EXHAUSTED, 1, 5]);
      }
    });
  }
});

test("RetryInfo of a full queue reaches a typed client", async (t) => {
  const { port } = await serveEcho(t, {
    behaviour() {
      throw queueFull("the queue is full", 1_500);
    },
  });
  const { transport, close } = openStockTransport(port);
  t.after(close);
  const client = createClient(ImagePipelineService, transport);
  const error = await client.generate({ prompt: "x" }).catch(ConnectError.from);
  assert.ok(error instanceof ConnectError);
  assert.equal(error.code, Code.ResourceExhausted);
  assert.equal(retryDelayMsOf(error), 1_500);
});
