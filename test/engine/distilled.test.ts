import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { distilledDefaults, distilledKind } from "../../src/engine/model-description.js";

const plain = { metadata: {}, schedulerClass: "EulerDiscreteScheduler", guidanceEmbedding: false };

describe("defaults of distilled models", () => {
  const names: readonly (readonly [name: string, steps: number | undefined, guidanceScale: number | undefined])[] = [
    ["stabilityai/sdxl-turbo", 4, 0],
    ["sd_xl_turbo_1.0_fp16", 4, 0],
    ["ByteDance/SDXL-Lightning:sdxl_lightning_4step.safetensors", 4, 0],
    ["sdxl_lightning_2step", 2, 0],
    ["latent-consistency/lcm-lora-merged", 4, 1],
    ["juggernautXL_v9", undefined, undefined],
    ["stabilityai/stable-diffusion-xl-base-1.0", undefined, undefined],
    ["realcmodel-xl", undefined, undefined],
  ];
  for (const [name, steps, guidanceScale] of names) {
    it(`${name}: ${steps ?? "the usual"} steps at guidance ${guidanceScale ?? "5"}`, () => {
      const defaults = distilledDefaults({ ...plain, name });
      assert.deepEqual([defaults?.steps, defaults?.guidanceScale], [steps, guidanceScale]);
    });
  }

  it("distilled model is detected by a file's metadata, a UNet with guidance embedding, and its scheduler", () => {
    assert.equal(distilledKind({ name: "x", metadata: { "modelspec.title": "My Lightning merge" } }), "Lightning");
    const embedded = distilledDefaults({ ...plain, name: "x", guidanceEmbedding: true });
    assert.deepEqual([embedded?.steps, embedded?.guidanceScale], [4, 8]);
    const scheduled = distilledDefaults({ ...plain, name: "x", schedulerClass: "LCMScheduler" });
    assert.deepEqual([scheduled?.steps, scheduled?.guidanceScale], [4, 1]);
    assert.match(scheduled?.reason ?? "", /LCMScheduler/);
  });
});
