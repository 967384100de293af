import { createTestMesh } from "../../src/testing/create-test-mesh.js";

/** State that the process reports on request. */
export interface MeshReport {
  /** All log lines. */
  readonly log: string;
  /** All spans, as JSON. */
  readonly spans: string;
  /** Bytes that live after a collection, on the heap and beside it. */
  readonly liveBytes: number;
}

/** Both services on free ports in a process of their own, for tests that measure that process from outside. Ends with its parent. */
const lines: string[] = [];
const mesh = await createTestMesh({ wire: "port", onLog: (line) => lines.push(line) });

process.on("message", () => {
  globalThis.gc?.();
  const { heapUsed, external, arrayBuffers } = process.memoryUsage();
  const spans = JSON.stringify(mesh.spans(), (_, value) => (typeof value === "bigint" ? `${value}` : value));
  const report: MeshReport = { log: lines.join(""), spans, liveBytes: heapUsed + external + arrayBuffers };
  process.send?.(report);
});
process.on("disconnect", () => process.exit(0));
process.send?.({ pipelineUrl: mesh.pipelineUrl, workerUrl: mesh.workerUrl });
