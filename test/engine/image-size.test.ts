import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { describeRule, fitsRule, sizeRules } from "../../src/engine/generation-limits.js";
import { readModel } from "../../src/engine/model-folder.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";

describe("image size", async () => {
  const tiny = await readModel(await makeSdxlFolder(await temporaryFolder()));
  // The shape of Stability's SDXL base 1.0.
  const sdxl = {
    ...tiny,
    unet: { ...tiny.unet, sample_size: 128, block_out_channels: [320, 640, 1280] },
    vae: { ...tiny.vae, block_out_channels: [128, 256, 512, 512] },
  };

  it("SDXL image size is a multiple of 32 up to 2048 and 1024 by default", () => {
    const { width, height, vaeFactor } = sizeRules(sdxl, { type: "float32", shape: ["batch", 4, "height", "width"] });
    assert.deepEqual(width, { step: 32, minimum: 32, maximum: 2048, default: 1024 });
    assert.deepEqual(height, width);
    assert.equal(vaeFactor, 8);
    assert.equal(describeRule(width), "a multiple of 32 from 32 to 2048");
    for (const [length, fits] of [
      [1024, true],
      [2048, true],
      [2080, false],
      [1000, false],
      [0, false],
      [-32, false],
      [32.5, false],
    ] as const) {
      assert.equal(fitsRule(length, width), fits, `${length}`);
    }
  });

  it("image size of a graph exported for one size is fixed", () => {
    const { width, height } = sizeRules(sdxl, { type: "float16", shape: [1, 4, 64, 96] });
    assert.equal(describeRule(height), "512");
    assert.deepEqual([width.default, height.default], [768, 512]);
    assert.equal(fitsRule(1024, width), false);
  });
});
