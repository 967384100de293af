import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseDevice, placementsFor, remedyFor } from "../../src/engine/device.js";

describe("placementsFor", () => {
  it("auto tries the platform's devices, fastest first and CPU last", () => {
    const tried = (...listed: string[]) => placementsFor("auto", listed).map(({ provider }) => provider);
    assert.deepEqual(tried("cpu", "webgpu", "cuda", "tensorrt"), ["cuda", "webgpu", "cpu"]);
    assert.deepEqual(tried("cpu", "webgpu", "coreml"), ["coreml", "webgpu", "cpu"]);
    assert.deepEqual(tried("cpu", "dml", "webgpu"), ["dml", "webgpu", "cpu"]);
    assert.deepEqual(tried("cpu"), ["cpu"]);
    assert.deepEqual(tried(), ["cpu"]);
  });

  it("named device is the only one tried, listed or not", () => {
    assert.deepEqual(placementsFor("tensorrt", ["cpu"]), [{ provider: "tensorrt" }]);
    assert.deepEqual(placementsFor("cuda:1", ["cpu", "cuda"]), [{ provider: "cuda", index: 1 }]);
    assert.deepEqual(placementsFor("cpu", ["cpu", "cuda"]), [{ provider: "cpu" }]);
  });
});

describe("parseDevice", () => {
  it("parseDevice accepts names, and numbers for devices that support them", () => {
    for (const text of ["auto", "cpu", "cuda", "cuda:0", "cuda:12", "tensorrt:1", "webgpu", "coreml", "dml:2"]) {
      assert.equal(parseDevice(text), text);
    }
    for (const text of ["", "gpu", "CPU", "cpu:0", "webgpu:1", "cuda:", "cuda:-1", "cuda:1.5", "cuda:123", "auto:1"]) {
      assert.equal(parseDevice(text), undefined, text);
    }
  });
});

describe("remedyFor", () => {
  it("remedyFor suggests no installation that the platform does not have", () => {
    assert.match(remedyFor("cuda", "linux"), /ONNXRUNTIME_NODE_INSTALL=cuda12 npm rebuild onnxruntime-node/);
    assert.doesNotMatch(remedyFor("cuda", "darwin"), /install/);
    assert.match(remedyFor("coreml", "linux"), /macOS only/);
    assert.match(remedyFor("dml", "darwin"), /Windows only/);
  });
});
