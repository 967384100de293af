/**
 * Run both services in your test's process: `createTestMesh`.
 *
 * @module testing
 */

export type { SpanEventRecord, SpanKindName, SpanLinkRecord, SpanRecord } from "../trace/span-record.js";
export type { MetricPoint } from "../trace/telemetry/collectors.js";
export { createTestMesh, type TestMesh, type TestMeshOptions } from "./create-test-mesh.js";
export { createFakeEngine, type FakeEngine, type FakeEngineOptions } from "./fake-engine.js";
export type { Wire } from "./start-app.js";
