import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import test, { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Code } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { createPipelineClient } from "../../src/client/client.js";
import { createTestMesh, type TestMesh } from "../../src/testing/create-test-mesh.js";
import { createHeldEngine } from "../support/held-engine.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const run = promisify(execFile);
const generatePath = "throughline.v1.ImagePipelineService/Generate";
const streamPath = "throughline.v1.ImagePipelineService/GenerateStream";

let mesh: TestMesh;
before(async () => {
  mesh = await createTestMesh({ wire: "port" });
});
after(() => mesh.stop());

const buf = async (args: readonly string[], data: object, path: string) => {
  const { stdout } = await run(
    process.execPath,
    [
      `${root}/node_modules/@bufbuild/buf/bin/buf`,
      "curl",
      ...args,
      "-d",
      JSON.stringify(data),
      `${mesh.pipelineUrl}/${path}`,
    ],
    { cwd: root },
  );
  return stdout;
};

for (const protocol of ["connect", "grpc", "grpcweb"]) {
  for (const [source, args] of [
    ["reflection", []],
    ["--schema", ["--schema", "proto", "--schema", "third_party/proto"]],
  ] as const) {
    for (const http of protocol === "grpc" ? [["--http2-prior-knowledge"]] : [[], ["--http2-prior-knowledge"]]) {
      test(`buf curl, ${protocol}, ${source} ${http.join("")}`, async () => {
        const flags = ["--protocol", protocol, ...args, ...http];
        const one = JSON.parse(await buf(flags, { prompt: "a red heart", options: { seed: 7 } }, generatePath));
        assert.equal(one.seed, 7);
        assert.match(one.image.url, /^data:image\/png;base64,/);
        const stream = await buf(flags, { request: { prompt: "a red heart" } }, streamPath);
        assert.match(stream, /"stage": ?"STAGE_DENOISING"[\s\S]*"result"/);
      });
    }
  }
}

test("grpc-js client with the contract loaded from its text generates", async () => {
  const definition = loadSync("throughline/v1/pipeline.proto", {
    includeDirs: [`${root}/proto`, `${root}/third_party/proto`],
    keepCase: true,
    enums: String,
    oneofs: true,
  });
  const service = definition["throughline.v1.ImagePipelineService"];
  assert.ok(service && "Generate" in service && "GenerateStream" in service);
  const client = new grpc.Client(new URL(mesh.pipelineUrl).host, grpc.credentials.createInsecure());
  const { Generate, GenerateStream } = service as Record<string, grpc.MethodDefinition<object, Record<string, never>>>;
  assert.ok(Generate && GenerateStream);

  const unary = (request: object) =>
    new Promise<{ trace_id: string; image: { content_type: string } }>((resolve, reject) =>
      client.makeUnaryRequest(
        Generate.path,
        Generate.requestSerialize,
        Generate.responseDeserialize,
        request,
        (error, response) => (error ? reject(error) : resolve(response as never)),
      ),
    );
  const answer = await unary({ prompt: "a red heart", options: { seed: 7, scheduler: "SCHEDULER_EULER_DISCRETE" } });
  assert.equal(answer.image.content_type, "image/png");
  assert.match(answer.trace_id, /^[0-9a-f]{32}$/);
  await assert.rejects(unary({ prompt: "" }), { code: grpc.status.INVALID_ARGUMENT });

  const events: string[] = [];
  const stream = client.makeServerStreamRequest(
    GenerateStream.path,
    GenerateStream.requestSerialize,
    GenerateStream.responseDeserialize,
    { request: { prompt: "a red heart" } },
  );
  for await (const message of stream) {
    events.push((message as { event: string }).event);
  }
  assert.equal(events.at(-1), "result");
  client.close();
});

test("plain JSON over HTTP/1.1 uses snake_case in requests and responses", async () => {
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const post = async (url: string, body: object) => {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  };
  const direct = await post(`${mesh.workerUrl}/throughline.v1.TextToImageWorkerService/Infer`, {
    prompt: "a red heart",
    trace_context: { traceparent },
  });
  assert.equal(direct.status, 200);
  assert.equal(direct.body["truncated_tokens"], 0);
  assert.deepEqual(Object.keys(direct.body["image"] ?? {}).sort(), [
    "content_type",
    "data",
    "file_name",
    "file_size",
    "height",
    "url",
    "width",
  ]);
  const spans = await mesh.waitForTrace("0af7651916cd43dd8448eb211c80319c", 3);
  assert.equal(spans.find(({ name }) => name === "inference")?.parentSpanId, "b7ad6b7169203331");

  const snake = await post(`${mesh.pipelineUrl}/${generatePath}`, { prompt: "a", options: { num_inference_steps: 0 } });
  const camel = await post(`${mesh.pipelineUrl}/${generatePath}`, { prompt: "a", options: { numInferenceSteps: 0 } });
  assert.deepEqual([snake.status, camel.status], [400, 400]);
});

test("browser clients generate by Connect and gRPC-Web over fetch", async () => {
  for (const options of [
    { baseUrl: mesh.pipelineUrl },
    { transport: createGrpcWebTransport({ baseUrl: mesh.pipelineUrl }) },
  ]) {
    const pipeline = createPipelineClient(options);
    assert.equal((await pipeline.generate({ prompt: "a", options: { seed: 3 } })).seed, 3);
    let last = "";
    for await (const { event } of pipeline.generateStream({ request: { prompt: "a" } })) {
      last = event.case ?? "";
    }
    assert.equal(last, "result");
  }
});

test("aborted fetch stops the engine and releases its slot", async (t) => {
  const held = createHeldEngine();
  const own = await createTestMesh({ wire: "port", engine: held.engine, maxWaiting: 0 });
  t.after(() => own.stop());
  const pipeline = createPipelineClient({ baseUrl: own.pipelineUrl });
  const controller = new AbortController();
  const call = pipeline.generate({ prompt: "a" }, { signal: controller.signal });
  await held.reached;
  controller.abort();
  await assert.rejects(call, { code: Code.Canceled });
  await own.waitForTrace(own.spans()[0]?.traceId ?? "", 5);
  assert.equal(held.engine.stepsRun, 1);
  held.release();
  assert.ok((await pipeline.generate({ prompt: "a" })).image);
});
