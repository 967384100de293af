import assert from "node:assert/strict";
import test from "node:test";
import { createTestMesh } from "../../src/testing/create-test-mesh.js";
import type { SpanRecord } from "../../src/trace/span-record.js";
import { text } from "../support/dump-spans.js";

/** Names, kinds and services of a trace, as a tree. */
function outline(spans: readonly SpanRecord[], parent = "", indent = ""): string {
  return spans
    .filter(({ parentSpanId }) => parentSpanId === parent)
    .map((span) => {
      const line = `${indent}${span.name} ${span.kind} ${span.service}${span.status.code === "ERROR" ? " ERROR" : ""}`;
      return [line, outline(spans, span.spanId, `${indent}  `)].filter((part) => part !== "").join("\n");
    })
    .sort()
    .join("\n");
}

test("stage spans, when enabled, are children of diffusion and upload", async (t) => {
  const mesh = await createTestMesh({ environment: { THROUGHLINE_STAGE_SPANS: "true" } });
  t.after(() => mesh.stop());
  const { traceId } = await mesh.pipeline.generate({ prompt: "a red heart" });
  const spans = await mesh.waitForTrace(traceId, 10);
  assert.equal(
    outline(spans),
    text`
      image-pipeline SERVER image-pipeline
        call-inference-worker CLIENT image-pipeline
        inference SERVER text-to-image-worker
          diffusion INTERNAL text-to-image-worker
            denoising INTERNAL text-to-image-worker
            text-encoding INTERNAL text-to-image-worker
            vae-decode INTERNAL text-to-image-worker
          upload INTERNAL text-to-image-worker
            image-encode INTERNAL text-to-image-worker
        preprocess-prompt INTERNAL image-pipeline
    `,
  );
  const stages = ["text-encoding", "denoising", "vae-decode", "image-encode"];
  const inOrderOfEnds = mesh.spans().flatMap(({ name }) => (stages.includes(name) ? [name] : []));
  assert.deepEqual(inOrderOfEnds, stages);
});
