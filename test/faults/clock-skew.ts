import assert from "node:assert/strict";
import type { SpanRecord } from "../../src/trace/span-record.js";
import type { FaultTable } from "./support/fault-table.js";
import { startPipeline } from "./support/start-pipeline.js";
import { startWorkerProcess } from "./support/worker-process.js";

const hourMs = 3_600_000;
const deadlineMs = 3_000;

/** A worker's clock is an hour ahead. */
export async function clockSkew(index: number, table: FaultTable): Promise<void> {
  const fault = "a worker's clock is an hour ahead";
  const worker = await startWorkerProcess(index, hourMs);
  const pipeline = await startPipeline({ workers: [worker], processes: [worker] });
  try {
    const generated = await pipeline.generate();
    assert.equal(generated.code, "OK", generated.words);
    const root = named(generated.spans, "image-pipeline");
    const inference = named(generated.spans, "inference");
    assert.equal(inference.parentSpanId, root.spanId);
    const aheadMs = Number(inference.startUnixNano - root.startUnixNano) / 1e6;
    assert.ok(Math.abs(aheadMs - hourMs) < 60_000, `${aheadMs} ms ahead`);
    table.addCall(fault, "any", generated, { trace: "worker spans an hour later, with the right parent" });

    worker.hold(true);
    const late = await pipeline.generate({ timeoutMs: deadlineMs });
    assert.equal(late.code, "DEADLINE_EXCEEDED");
    assert.match(late.words, /^deadline exceeded: denoising, step 1 of 4$/);
    assert.equal(late.attempts.length, 1);
    assert.ok(late.tookMs > deadlineMs / 2, "the skew went into the deadline");
    table.addCall(fault, `with a deadline of ${deadlineMs / 1000} s`, late);
  } finally {
    await pipeline.stop();
    worker.end();
  }
}

function named(spans: readonly SpanRecord[], name: string): SpanRecord {
  const span = spans.find((each) => each.name === name);
  assert.ok(span, `there is no ${name}`);
  return span;
}
