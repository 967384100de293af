import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { GenerationError, type GenerationLimits, type GenerationRequest } from "../../src/engine/engine.js";
import {
  describeRule,
  fitsRule,
  narrowLimits,
  needsSecondRun,
  resolveSettings,
  sizeRules,
} from "../../src/engine/generation-limits.js";
import { distilledDefaults, distilledKind } from "../../src/engine/model-description.js";
import { readModel } from "../../src/engine/model-folder.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";

const side = { step: 32, minimum: 32, maximum: 256, default: 128 };
const limits: GenerationLimits = {
  sizes: { width: side, height: { ...side, default: 64 }, vaeFactor: 8 },
  ownScheduler: "dpmpp-2m",
  schedulers: {
    "dpmpp-2m": { defaultSteps: 20, maximumSteps: 1000 },
    lcm: { defaultSteps: 12, maximumSteps: 12 },
  },
  defaultGuidanceScale: 4,
  guidance: "second-run",
  maximumClipSkip: 2,
};
const range = { maximumSteps: 150, maximumClipSkip: 11 };
const heart: GenerationRequest = { prompt: "a heart", seed: 7 };

describe("settings of a request", () => {
  it("unset settings are the model's defaults for the requested scheduler", () => {
    const own = {
      width: 128,
      height: 64,
      steps: 20,
      guidanceScale: 4,
      seed: 7,
      scheduler: "dpmpp-2m",
      clipSkip: 0,
      guidanceRescale: 0,
    };
    assert.deepEqual(resolveSettings(heart, limits), own);
    assert.deepEqual(resolveSettings({ ...heart, scheduler: "lcm" }, limits), { ...own, steps: 12, scheduler: "lcm" });
  });

  it("settings of a request are used within the limits, also after serialization of the limits", () => {
    const changed = { width: 256, height: 32, steps: 12, guidanceScale: 0, scheduler: "lcm" } as const;
    const own = { ...changed, seed: 0, clipSkip: 2, guidanceRescale: 0.7 };
    assert.deepEqual(resolveSettings({ prompt: "", ...own }, JSON.parse(JSON.stringify(limits))), own);
  });

  it("setting beyond the model's limits is rejected with its field and limit", () => {
    const rejected: [Partial<GenerationRequest>, string, RegExp][] = [
      [{ width: 72 }, "width", /a multiple of 32 from 32 to 256$/],
      [{ height: 288 }, "height", /a multiple of 32 from 32 to 256$/],
      [{ steps: 13, scheduler: "lcm" }, "steps", /a whole number from 1 to 12$/],
      [{ steps: 0 }, "steps", /a whole number from 1 to 1000$/],
      [
        { scheduler: "ddim" },
        "scheduler",
        /^scheduler: this model's configuration does not fit that scheduler; leave it out/,
      ],
      [{ guidanceScale: Number.NaN }, "guidanceScale", /a finite number$/],
      [{ clipSkip: 3 }, "clipSkip", /a whole number from 0 to 2$/],
      [{ clipSkip: 0.5 }, "clipSkip", /a whole number from 0 to 2$/],
      [{ guidanceRescale: 1.5 }, "guidanceRescale", /a number from 0 to 1$/],
      [{ guidanceRescale: Number.NaN }, "guidanceRescale", /a number from 0 to 1$/],
      [{ seed: 2 ** 32 }, "seed", /from 0 to 4294967295; leave it out for a random one$/],
    ];
    for (const [request, field, message] of rejected) {
      const expected = { name: "GenerationError", kind: "unsupported", message };
      const resolve = () => resolveSettings({ ...heart, ...request }, limits);
      assert.throws(resolve, expected);
      assert.deepEqual(violatedFields(resolve), [field]);
    }
  });

  it("name every wrong field at once, each with its values", () => {
    const wrong: Partial<GenerationRequest> = { width: 72, height: 288, steps: 0, guidanceScale: Number.NaN, seed: -1 };
    const resolve = () => resolveSettings({ ...heart, ...wrong }, limits);
    assert.deepEqual(violatedFields(resolve), ["width", "height", "steps", "guidanceScale", "seed"]);
    assert.throws(resolve, { message: /^width: .* from 32 to 256; height: .*; steps: .*; guidanceScale: .*; seed: / });
  });

  it("can be narrowed to sides and steps that are possible elsewhere, but never below the model's own default", () => {
    const { sizes } = narrowLimits(limits, { minimumSide: 65, maximumSide: 200, ...range });
    assert.deepEqual(sizes.width, { step: 32, minimum: 96, maximum: 192, default: 128 });
    assert.deepEqual([sizes.height.minimum, sizes.height.maximum], [64, 192]);
    const { schedulers } = narrowLimits(limits, { minimumSide: 64, maximumSide: 256, ...range, maximumSteps: 15 });
    assert.deepEqual(schedulers, {
      "dpmpp-2m": { defaultSteps: 20, maximumSteps: 20 },
      lcm: { defaultSteps: 12, maximumSteps: 12 },
    });
    assert.equal(
      narrowLimits({ ...limits, maximumClipSkip: 23 }, { minimumSide: 64, maximumSide: 256, ...range }).maximumClipSkip,
      11,
    );
    assert.doesNotThrow(() =>
      resolveSettings(heart, narrowLimits(limits, { minimumSide: 256, maximumSide: 256, ...range })),
    );
  });

  it("clip skip is rejected by a model whose exported text encoders have no earlier hidden states", () => {
    assert.throws(() => resolveSettings({ ...heart, clipSkip: 1 }, { ...limits, maximumClipSkip: 0 }), {
      message: /^clipSkip: this model takes 0: its text encoders have no earlier layer$/,
    });
  });

  it("needsSecondRun is true for guidance above 1 without an embedding", () => {
    const runsTwice = (guidanceScale: number, guidance: GenerationLimits["guidance"]) =>
      needsSecondRun({ guidanceScale }, { ...limits, guidance });
    assert.deepEqual(
      [runsTwice(1, "second-run"), runsTwice(1.1, "second-run"), runsTwice(5, "embedded")],
      [false, true, false],
    );
  });
});

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

function violatedFields(resolve: () => unknown): string[] {
  try {
    resolve();
    return [];
  } catch (error) {
    assert.ok(error instanceof GenerationError);
    return error.violations.map(({ field }) => field);
  }
}
