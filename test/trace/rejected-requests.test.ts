import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { GenerateResponseSchema, ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { listen } from "../../src/mesh/port/listen.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { createValidationInterceptor } from "../../src/mesh/serve/validation.js";
import { createServerSpanInterceptor } from "../../src/trace/server-span-interceptor.js";
import { envelope } from "../mesh/support/raw-http.js";
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
