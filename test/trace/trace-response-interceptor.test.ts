import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { type CallOptions, Code, ConnectError } from "@connectrpc/connect";
import { createTestMesh, type TestMeshOptions } from "../../src/testing/create-test-mesh.js";
import { createHeldEngine } from "../support/held-engine.js";

async function meshFor(t: TestContext, options: TestMeshOptions) {
  const mesh = await createTestMesh(options);
  t.after(() => mesh.stop());
  return mesh;
}

/** Options of a call that keep what its headers say of its trace. */
function hearing() {
  const heard: string[] = [];
  const options: CallOptions = { onHeader: (headers) => void heard.push(headers.get("traceresponse") ?? "none") };
  return { heard, options };
}

for (const wire of ["memory", "port"] as const) {
  test(`response carries its trace in a header (${wire})`, async (t) => {
    const mesh = await meshFor(t, { wire });
    const { heard, options } = hearing();
    const { traceId } = await mesh.pipeline.generate({ prompt: "a red heart" }, options);
    const spans = await mesh.waitForTrace(traceId, 6);
    const root = spans.find(({ name }) => name === "image-pipeline");
    assert.deepEqual(heard, [`00-${traceId}-${root?.spanId}-01`]);
  });

  test(`stream carries its trace in a header while it runs (${wire})`, async (t) => {
    const held = createHeldEngine();
    const mesh = await meshFor(t, { wire, engine: held.engine });
    const { heard, options } = hearing();
    const traceIds: string[] = [];
    for await (const { event } of mesh.pipeline.generateStream({ request: { prompt: "a red heart" } }, options)) {
      assert.equal(heard.length, 1, "before the first event");
      held.release();
      if (event.case === "result") {
        traceIds.push(event.value.traceId);
      }
    }
    assert.deepEqual(
      traceIds,
      heard.map((header) => header.split("-")[1]),
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
    const { heard, options } = hearing();
    await mesh.pipeline.generate({ prompt: "a red heart" }, options);
    assert.match(heard.join(), expected);
  }
});
