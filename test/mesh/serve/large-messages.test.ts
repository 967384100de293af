import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import * as grpc from "@grpc/grpc-js";
import { ImagePipelineService } from "../../../src/gen/throughline/v1/pipeline_pb.js";
import { errorOf } from "../support/error-of.js";
import { connectHttp2, envelope, http2Request } from "../support/raw-http.js";
import { serveEcho } from "../support/serve-echo.js";

const limit = 12_582_912;
const expected = `the message is larger than the limit of ${limit} bytes; send less, such as a smaller image`;

/**
 * Node's HTTP/2 client keeps what it sends in memory, at most 10 MB by default, and drops a response that does not fit beside it. All of these
 * messages are larger.
 */
suite("message over the limit of 12 MiB is RESOURCE_EXHAUSTED with the limit and the remedy", () => {
  const serve = (t: TestContext) => serveEcho(t, { readMaxBytes: limit });

  const transports: Readonly<Record<string, (baseUrl: string) => Transport>> = {
    gRPC: (baseUrl) => createGrpcTransport({ baseUrl }),
    "Connect, HTTP/2": (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "2" }),
    "Connect, HTTP/1.1": (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1" }),
    "Connect JSON, HTTP/2": (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: false }),
    "gRPC-Web, HTTP/2": (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "2" }),
    "gRPC-Web, HTTP/1.1": (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }),
  };
  for (const [name, make] of Object.entries(transports)) {
    test(`connect-node: ${name}`, async (t) => {
      const { url } = await serve(t);
      const pipeline = createClient(ImagePipelineService, make(url));
      for (const size of [limit, 20_000_000, 60_000_000]) {
        const prompt = "x".repeat(size);
        const stream = async () => {
          for await (const _ of pipeline.generateStream({ request: { prompt } })) {
            // None comes.
          }
        };
        for (const call of [() => pipeline.generate({ prompt }), stream]) {
          await assert.rejects(call, (error) => {
            const { code, rawMessage } = ConnectError.from(error);
            assert.deepEqual([Code[code], rawMessage], ["ResourceExhausted", expected]);
            return true;
          });
        }
      }
      assert.equal((await pipeline.generate({ prompt: "x" })).model, "echo");
    });
  }

  test("grpc-js", async (t) => {
    const { port } = await serve(t);
    const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
    t.after(() => client.close());
    const path = "/throughline.v1.ImagePipelineService/Generate";
    const asIs = (bytes: Buffer) => bytes;
    for (const size of [limit + 1, 20_000_000, 100_000_000]) {
      const call = new Promise((resolve, reject) =>
        client.makeUnaryRequest(path, asIs, asIs, Buffer.alloc(size), (error, response) =>
          error === null ? resolve(response) : reject(error),
        ),
      );
      await assert.rejects(call, { code: grpc.status.RESOURCE_EXHAUSTED, details: expected });
    }
  });

  test("endless body is answered and reset after 64 MiB", async (t) => {
    const { url } = await serve(t);
    const session = connectHttp2(t, url);
    const headers = { "content-type": "application/grpc", te: "trailers" };
    const body = Buffer.alloc(100_000_000);
    envelope("").copy(body);
    body.writeUInt32BE(body.byteLength - 5, 1);
    const response = await http2Request(session, "/throughline.v1.ImagePipelineService/Generate", { headers, body });
    assert.equal(errorOf(response).rawMessage, expected);
  });
});
