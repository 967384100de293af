import assert from "node:assert/strict";
import { request as http1Request } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { after, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { createPipelineClient } from "../../src/client/client.js";
import { ListModelsRequestSchema } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { maxImageRequestBytes } from "../../src/request-limits.js";
import { createTestMesh } from "../../src/testing/create-test-mesh.js";
import { pngOfSize } from "../support/input-images.js";

/*
 * Requests with large images over the port, by clients that are not ours, and the limits of their size.
 */

const root = fileURLToPath(new URL("../..", import.meta.url));
const mebibyte = 1024 ** 2;
const prompt = "a red heart";
const generatePath = "/throughline.v1.ImagePipelineService/Generate";
const listPath = "/throughline.v1.ImagePipelineService/ListModels";

/** Of more than 7 MiB, and a whole image. */
const large = await pngOfSize(7.05 * mebibyte);
/** One byte more than the contract takes, beginning as an image. */
const tooLarge = Buffer.concat([large, Buffer.alloc(8 * mebibyte + 1 - large.length)]);

const jsonRequest = (image: Uint8Array): string =>
  JSON.stringify({ prompt, options: { init_image: Buffer.from(image).toString("base64"), strength: 0.5 } });

interface Answer {
  readonly status: number;
  readonly body: {
    readonly code?: string;
    readonly message?: string;
    readonly settings?: { readonly strength?: number };
  };
}

describe("image to start from, over the port", async () => {
  assert.ok(large.length > 7 * mebibyte && large.length < 8 * mebibyte);
  const mesh = await createTestMesh({ wire: "port" });
  after(() => mesh.stop());
  const { pipelineUrl: url } = mesh;

  const overHttp1 = (body: string | Uint8Array, path = generatePath, type = "application/json"): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const headers = { "content-type": type, "content-length": Buffer.byteLength(body) };
      const request = http1Request(`${url}${path}`, { method: "POST", headers }, async (response) => {
        const chunks: Buffer[] = [];
        for await (const chunk of response) {
          chunks.push(Buffer.from(chunk));
        }
        resolve({ status: response.statusCode ?? 0, body: JSON.parse(Buffer.concat(chunks).toString()) });
      });
      request.on("error", reject);
      request.end(body);
    });

  const overHttp2 = (body: string): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const session = connectHttp2(url);
      session.on("error", reject);
      const stream = session.request({ ":method": "POST", ":path": generatePath, "content-type": "application/json" });
      let status = 0;
      const chunks: Buffer[] = [];
      stream.on("response", (header) => {
        status = Number(header[":status"]);
      });
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", () => {
        session.close();
        resolve({ status, body: JSON.parse(Buffer.concat(chunks).toString()) });
      });
      stream.on("error", reject);
      stream.end(body);
    });

  for (const [name, send] of [
    ["HTTP/1.1", overHttp1],
    ["HTTP/2", overHttp2],
  ] as const) {
    it(`Connect JSON over ${name} takes an image of 7 MiB`, async () => {
      const { status, body } = await send(jsonRequest(large));
      assert.equal(status, 200, JSON.stringify(body).slice(0, 200));
      assert.equal(body.settings?.strength, 0.5);
    });

    it(`Connect JSON over ${name}: one byte above 8 MiB names the field and the limit`, async () => {
      const { status, body } = await send(jsonRequest(tooLarge));
      assert.deepEqual([status, body.code], [400, "invalid_argument"]);
      assert.match(body.message ?? "", /^options\.init_image: .*8388608/);
    });
  }

  it("message above the limit of the method names that limit", async () => {
    const { status, body } = await overHttp1(" ".repeat(maxImageRequestBytes + 1));
    assert.deepEqual([status, body.code], [429, "resource_exhausted"]);
    assert.match(body.message ?? "", new RegExp(`${maxImageRequestBytes}`));
  });

  it("other methods keep their limit of 1 MiB, also for what is decompressed", async () => {
    const { status, body } = await overHttp1(`{}${" ".repeat(mebibyte)}`, listPath);
    assert.deepEqual([status, body.code], [429, "resource_exhausted"]);
    assert.match(body.message ?? "", /1048576/);
    const response = await fetch(`${url}${listPath}`, {
      method: "POST",
      headers: { "content-type": "application/json", "content-encoding": "gzip" },
      body: gzipSync(`{}${" ".repeat(2 * mebibyte)}`),
    });
    assert.equal(response.status, 429);
  });

  it("gRPC-Web takes an image of 7 MiB, whole and as a stream", async () => {
    const client = createPipelineClient({ transport: createGrpcWebTransport({ baseUrl: url }) });
    const options = { initImage: large, strength: 0.5 };
    const { settings } = await client.generate({ prompt, options });
    assert.equal(settings?.strength, 0.5);
    let last: string | undefined;
    for await (const { event } of client.generateStream({ request: { prompt, options } })) {
      last = event.case;
    }
    assert.equal(last, "result");
    await assert.rejects(client.generate({ prompt, options: { initImage: tooLarge } }), (error) => {
      const { code, rawMessage } = ConnectError.from(error);
      assert.equal(code, Code.InvalidArgument);
      assert.match(rawMessage, /^options\.init_image: /);
      return true;
    });
  });

  it("grpc-js with the contract loaded from its text takes an image of 7 MiB, whole and as a stream", async () => {
    const definition = loadSync("throughline/v1/pipeline.proto", {
      includeDirs: [`${root}/proto`, `${root}/third_party/proto`],
      keepCase: true,
      enums: String,
      oneofs: true,
    });
    const { Generate, GenerateStream, ListModels } = definition[
      "throughline.v1.ImagePipelineService"
    ] as unknown as Record<string, grpc.MethodDefinition<object, { settings: { strength: number }; event: string }>>;
    assert.ok(Generate && GenerateStream && ListModels);
    const client = new grpc.Client(new URL(url).host, grpc.credentials.createInsecure());
    const unary = (request: object) =>
      new Promise<{ settings: { strength: number } }>((resolve, reject) =>
        client.makeUnaryRequest(
          Generate.path,
          Generate.requestSerialize,
          Generate.responseDeserialize,
          request,
          (error, response) => (error || response === undefined ? reject(error) : resolve(response)),
        ),
      );
    const options = { init_image: large, strength: 0.5 };
    assert.equal((await unary({ prompt, options })).settings.strength, 0.5);
    await assert.rejects(unary({ prompt, options: { init_image: tooLarge } }), (error: grpc.ServiceError) => {
      assert.equal(error.code, grpc.status.INVALID_ARGUMENT);
      assert.match(error.details, /^options\.init_image: /);
      return true;
    });
    await assert.rejects(unary({ prompt: " ".repeat(maxImageRequestBytes) }), { code: grpc.status.RESOURCE_EXHAUSTED });
    const events: string[] = [];
    const stream = client.makeServerStreamRequest(
      GenerateStream.path,
      GenerateStream.requestSerialize,
      GenerateStream.responseDeserialize,
      { request: { prompt, options } },
    );
    for await (const message of stream) {
      events.push((message as { event: string }).event);
    }
    assert.equal(events.at(-1), "result");
    client.close();
  });

  it("several large requests at once are served", async () => {
    const bodies = Array.from({ length: 4 }, () => overHttp1(jsonRequest(large)));
    assert.deepEqual(
      (await Promise.all(bodies)).map(({ status }) => status),
      [200, 200, 200, 200],
    );
  });

  it("gRPC message of another method above 1 MiB is RESOURCE_EXHAUSTED", async () => {
    const client = new grpc.Client(new URL(url).host, grpc.credentials.createInsecure());
    const message = Buffer.concat([
      toBinary(ListModelsRequestSchema, create(ListModelsRequestSchema)),
      // An unknown field of 1 MiB.
      Buffer.from([0xfa, 0x3f, 0x80, 0x80, 0x40]),
      Buffer.alloc(mebibyte),
    ]);
    const call = new Promise((resolve, reject) =>
      client.makeUnaryRequest(
        listPath,
        (bytes: Buffer) => bytes,
        (bytes) => bytes,
        message,
        (error, response) => (error ? reject(error) : resolve(response)),
      ),
    );
    await assert.rejects(call, { code: grpc.status.RESOURCE_EXHAUSTED });
    client.close();
  });
});
