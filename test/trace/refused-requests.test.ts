import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { GenerateResponseSchema, ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { listen } from "../../src/mesh/port/listen.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { createValidationInterceptor } from "../../src/mesh/serve/validation.js";
import { createServerSpanInterceptor } from "../../src/trace/server-span-interceptor.js";
import { dumpSpans, text } from "../support/dump-spans.js";
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

const refused = text`
  image-pipeline SERVER image-pipeline
      rpc.response.status_code="INVALID_ARGUMENT"
      event exception exception.type="ConnectError"
`;

for (const [what, body] of Object.entries({
  "a rule broken": JSON.stringify({ prompt: canary.repeat(1000) }),
  "broken JSON": `{"prompt": "${canary}`,
  "a wrong type": JSON.stringify({ prompt: { [canary]: canary } }),
  "a wrong type in a list": JSON.stringify({ prompt: [canary] }),
  "a key twice": `{"prompt": "${canary}", "prompt": "${canary}"}`,
})) {
  test(`a refused request is a lone span with its code, and quotes nothing: ${what}`, async (t) => {
    const { url, collector } = await serve(t);
    const response = await fetch(url, { method: "POST", body, headers: { "content-type": "application/json" } });
    assert.equal(response.status, 400);
    assert.ok(!(await response.text()).includes(canary));
    const spans = collector.spans();
    assert.equal(dumpSpans(spans), refused);
  });
}

test("a good request in the same house is one span without a code", async (t) => {
  const { url, collector } = await serve(t);
  const body = JSON.stringify({ prompt: canary, unknown: canary });
  const response = await fetch(url, { method: "POST", body, headers: { "content-type": "application/json" } });
  assert.equal(response.status, 200);
  assert.equal(dumpSpans(collector.spans()), "image-pipeline SERVER image-pipeline");
});
