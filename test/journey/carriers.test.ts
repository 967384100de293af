import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { createTestMesh, type TestMesh } from "../../src/testing/create-test-mesh.js";
import type { SpanRecord } from "../../src/trace/span-record.js";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const spanId = "b7ad6b7169203331";
const valid = `00-${traceId}-${spanId}-01`;

let mesh: TestMesh;
before(async () => {
  mesh = await createTestMesh();
});
after(() => mesh.stop());

/** The `inference` span of one direct call. */
async function inferenceOf(
  traceContext: Record<string, string>,
  headers: Record<string, string> = {},
): Promise<SpanRecord> {
  const before = mesh.spans().length;
  await mesh.worker.infer({ prompt: "a", traceContext }, { headers });
  const inference = mesh
    .spans()
    .slice(before)
    .find(({ name }) => name === "inference");
  return inference ?? assert.fail("no inference span");
}

for (const [name, carrier] of Object.entries({
  plain: { traceparent: valid },
  "capital letters in the key": { TraceParent: valid },
  "a future version with a tail": { traceparent: `cc-${traceId}-${spanId}-01-later` },
  "a broken tracestate beside it": { traceparent: valid, tracestate: "=,;garbage" },
  "unknown keys beside it": { traceparent: valid, "x-request-id": "1", __proto__x: "2" },
})) {
  test(`trace carrier is the parent: ${name}`, async () => {
    const span = await inferenceOf(carrier);
    assert.deepEqual([span.traceId, span.parentSpanId], [traceId, spanId]);
  });
}

for (const [name, carrier] of Object.entries<Record<string, string>>({
  "no carrier": {},
  "an empty value": { traceparent: "" },
  garbage: { traceparent: "hello" },
  "a trace id of zeros": { traceparent: `00-${"0".repeat(32)}-${spanId}-01` },
  "a span id of zeros": { traceparent: `00-${traceId}-${"0".repeat(16)}-01` },
  "upper-case hexadecimal": { traceparent: valid.toUpperCase() },
  "version ff": { traceparent: `ff-${traceId}-${spanId}-01` },
  "a part missing": { traceparent: `00-${traceId}-01` },
  "version 00 with a tail": { traceparent: `${valid}-more` },
  "an unknown key": { parent: valid },
  "the largest that the contract accepts": Object.fromEntries(
    Array.from({ length: 16 }, (_, i) => [`${i}`.padEnd(256, "k"), "v".repeat(8192)]),
  ),
})) {
  test(`trace carrier starts a new root: ${name}`, async () => {
    const span = await inferenceOf(carrier);
    assert.notEqual(span.traceId, traceId);
    assert.equal(span.parentSpanId, "");
  });
}

test("tracestate is propagated to child spans", async () => {
  const span = await inferenceOf({ traceparent: valid, tracestate: "a=1,b=2", baggage: "user=x" });
  assert.equal(span.traceState, "a=1,b=2");
});

test("unsampled parent makes no spans", async () => {
  const before = mesh.spans().length;
  await mesh.worker.infer({ prompt: "a", traceContext: { traceparent: `00-${traceId}-${spanId}-00` } });
  assert.equal(mesh.spans().length, before);
});

test("traceparent header is the parent only when trusted and absent from the body", async (t) => {
  const header = { traceparent: `00-${"1".repeat(32)}-${"2".repeat(16)}-01` };
  assert.equal((await inferenceOf({}, header)).parentSpanId, "");
  const trusting = await createTestMesh({ trustTraceparent: true });
  t.after(() => trusting.stop());
  await trusting.worker.infer({ prompt: "a" }, { headers: header });
  await trusting.worker.infer({ prompt: "a", traceContext: { traceparent: valid } }, { headers: header });
  const inferences = trusting.spans().filter(({ name }) => name === "inference");
  assert.deepEqual(
    inferences.map(({ traceId }) => traceId),
    ["1".repeat(32), traceId],
  );
});
