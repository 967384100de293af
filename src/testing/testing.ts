/** What `throughline/testing` offers: both services in your test's process. */
export { createEngineHost, type EngineHost, type EngineHostOptions } from "../worker/engine-host.js";
export { createTestMesh, type TestMesh, type TestMeshOptions } from "./create-test-mesh.js";
export { createFakeEngine, type FakeEngine, type FakeEngineOptions } from "./fake-engine.js";
