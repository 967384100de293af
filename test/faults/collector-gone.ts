import assert from "node:assert/strict";
import { startOtlpReceiver } from "../support/otlp-receiver.js";
import type { FaultTable } from "./support/fault-table.js";
import { seconds } from "./support/fault-table.js";
import { startPipeline } from "./support/start-pipeline.js";
import type { WorkerProcess } from "./support/worker-process.js";

/** The collector of the pipeline's spans is gone. */
export async function collectorGone(workers: readonly WorkerProcess[], table: FaultTable): Promise<void> {
  const fault = "the collector is gone";
  const receiver = await startOtlpReceiver();
  const lines: string[] = [];
  const pipeline = await startPipeline({
    workers,
    processes: workers,
    environment: { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint, OTEL_BSP_SCHEDULE_DELAY: "200" },
    onLog: (line) => lines.push(line),
  });
  try {
    await pipeline.generate();
    await receiver.waitFor((spans) => spans.some(({ name }) => name === "image-pipeline"));
    await receiver.stop();
    const seen = await pipeline.generate();
    assert.equal(seen.code, "OK", seen.words);
    assert.equal(seen.attempts.length, 1);
    table.addCall(fault, "any", seen, { trace: "the pipeline's spans are lost; the log has their number" });
  } finally {
    await receiver.stop();
    const stoppedAt = performance.now();
    await pipeline.stop();
    const tookMs = performance.now() - stoppedAt;
    assert.ok(tookMs < 8_000, `the pipeline's end took ${seconds(tookMs)}`);
  }
  assert.ok(
    lines.some((line) => /"lostSpans":[1-9]/.test(line)),
    "the log does not tell of lost spans",
  );
}
