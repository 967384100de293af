import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { type CallOptions, Code, ConnectError } from "@connectrpc/connect";
import { GenerateResponseSchema, ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { listen } from "../../src/mesh/port/listen.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { createValidationInterceptor } from "../../src/mesh/serve/validation.js";
import { createTestMesh, type TestMeshOptions } from "../../src/testing/create-test-mesh.js";
import { createServerSpanInterceptor } from "../../src/trace/server-span-interceptor.js";
import { envelope } from "../mesh/support/raw-http.js";
import { dumpSpans, text } from "../support/dump-spans.js";
import { createHeldEngine } from "../support/held-engine.js";
import { testTelemetry } from "../support/telemetry.js";

const canary = "canary prompt";

/** A pipeline as it is composed: spans outermost, then validation. */
async function serve(t: TestContext) {
  const telemetry = testTelemetry(t, "image-pipeline");
  const services = [ImagePipelineService];
  const handler = createConnectHandler({
    interceptors: [
      createServerSpanInterceptor({ ...telemetry, name: "image-pipeline", services }),
      createValidationInterceptor(),
    ],
    routes: (router) =>
      router.service(ImagePipelineService, {
        generate: () => create(GenerateResponseSchema),
        generateStream: async function* () {
          yield { event: { case: "result", value: create(GenerateResponseSchema) } };
        },
      }),
  });
  const listening = await listen({ handler, host: "127.0.0.1", port: 0 });
  t.after(() => listening.stop({ graceMs: 0 }));
  return { url: `${listening.url}/throughline.v1.ImagePipelineService/Generate`, collector: telemetry.collector };
}

const rejected = text`
  image-pipeline SERVER image-pipeline
      rpc.response.status_code="INVALID_ARGUMENT"
      event exception exception.type="ConnectError"
`;

const post = (url: string, type: string, body: string | Buffer) =>
  fetch(url, { method: "POST", body, headers: { "content-type": type } });

test("unary request that breaks a rule makes one span with its code and no request text", async (t) => {
  const { url, collector } = await serve(t);
  const response = await post(url, "application/json", JSON.stringify({ prompt: canary.repeat(1000) }));
  assert.equal(response.status, 400);
  assert.ok(!(await response.text()).includes(canary));
  assert.equal(dumpSpans(collector.spans()), rejected);
});

for (const [what, body] of Object.entries({
  "broken JSON": `{"prompt": "${canary}`,
  "a wrong type": JSON.stringify({ prompt: { [canary]: canary } }),
  "an unknown field": JSON.stringify({ prompt: canary, [canary]: canary }),
  "a repeated key": `{"prompt": "${canary}", "prompt": "${canary}"}`,
})) {
  test(`unary request that cannot be decoded makes no span: ${what}`, async (t) => {
    const { url, collector } = await serve(t);
    assert.equal((await post(url, "application/json", body)).status, 400);
    assert.deepEqual(collector.spans(), []);
  });

  test(`streaming request that cannot be decoded makes one span with its code: ${what}`, async (t) => {
    const { url, collector } = await serve(t);
    const response = await post(`${url}Stream`, "application/connect+json", envelope(`{"request": ${body}}`));
    assert.match(await response.text(), /"code":"invalid_argument"/);
    assert.equal(dumpSpans(collector.spans()), rejected);
  });
}

test("valid request to the same server makes one span without a code", async (t) => {
  const { url, collector } = await serve(t);
  assert.equal((await post(url, "application/json", JSON.stringify({ prompt: canary }))).status, 200);
  assert.equal(dumpSpans(collector.spans()), "image-pipeline SERVER image-pipeline");
});

async function meshFor(t: TestContext, options: TestMeshOptions) {
  const mesh = await createTestMesh(options);
  t.after(() => mesh.stop());
  return mesh;
}

/** Call options that record the trace header of the response. */
function recordUndecodable() {
  const recorded: string[] = [];
  const options: CallOptions = { onHeader: (headers) => void recorded.push(headers.get("traceresponse") ?? "none") };
  return { recorded, options };
}

for (const wire of ["memory", "port"] as const) {
  test(`response carries its trace in a header (${wire})`, async (t) => {
    const mesh = await meshFor(t, { wire });
    const { recorded, options } = recordUndecodable();
    const { traceId } = await mesh.pipeline.generate({ prompt: "a red heart" }, options);
    const spans = await mesh.waitForTrace(traceId, 6);
    const root = spans.find(({ name }) => name === "image-pipeline");
    assert.deepEqual(recorded, [`00-${traceId}-${root?.spanId}-01`]);
  });

  test(`stream carries its trace in a header while it runs (${wire})`, async (t) => {
    const held = createHeldEngine();
    const mesh = await meshFor(t, { wire, engine: held.engine });
    const { recorded, options } = recordUndecodable();
    const traceIds: string[] = [];
    for await (const { event } of mesh.pipeline.generateStream({ request: { prompt: "a red heart" } }, options)) {
      assert.equal(recorded.length, 1, "before the first event");
      held.release();
      if (event.case === "result") {
        traceIds.push(event.value.traceId);
      }
    }
    assert.deepEqual(
      traceIds,
      recorded.map((header) => header.split("-")[1]),
    );
  });

  test(`rejected call carries its trace (${wire})`, async (t) => {
    const mesh = await meshFor(t, { wire });
    const error = await mesh.pipeline.generate({ prompt: "" }).catch((thrown: unknown) => ConnectError.from(thrown));
    assert.ok(error instanceof ConnectError);
    assert.equal(error.code, Code.InvalidArgument);
    assert.equal(error.metadata.get("traceresponse")?.split("-")[1], mesh.spans()[0]?.traceId);
  });
}

test("header is absent with tracing off, and marks an unsampled trace", async (t) => {
  for (const [environment, expected] of [
    [{ ENABLE_TRACING: "false" }, /^none$/],
    [{ OTEL_SAMPLE_RATE: "0" }, /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/],
  ] as const) {
    const mesh = await meshFor(t, { environment });
    const { recorded, options } = recordUndecodable();
    await mesh.pipeline.generate({ prompt: "a red heart" }, options);
    assert.match(recorded.join(), expected);
  }
});
