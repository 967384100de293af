import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { GenerationLimits, GenerationRequest } from "../../src/engine/engine.js";
import { needsSecondRun, resolveSettings } from "../../src/engine/generation-limits.js";

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
};
const heart: GenerationRequest = { prompt: "a heart", seed: 7 };

describe("settings of a request", () => {
  it("unset settings are the model's defaults for the requested scheduler", () => {
    const own = { width: 128, height: 64, steps: 20, guidanceScale: 4, seed: 7, scheduler: "dpmpp-2m" };
    assert.deepEqual(resolveSettings(heart, limits), own);
    assert.deepEqual(resolveSettings({ ...heart, scheduler: "lcm" }, limits), { ...own, steps: 12, scheduler: "lcm" });
  });

  it("settings of a request are used within the limits, also after serialization of the limits", () => {
    const own = { width: 256, height: 32, steps: 12, guidanceScale: 0, seed: 0, scheduler: "lcm" } as const;
    assert.deepEqual(resolveSettings({ prompt: "", ...own }, JSON.parse(JSON.stringify(limits))), own);
  });

  it("setting beyond the model's limits is rejected with its field and limit", () => {
    const rejected: [Partial<GenerationRequest>, string, RegExp][] = [
      [{ width: 72 }, "width", /a multiple of 32 from 32 to 256$/],
      [{ height: 288 }, "height", /a multiple of 32 from 32 to 256$/],
      [{ steps: 13, scheduler: "lcm" }, "steps", /a whole number from 1 to 12$/],
      [{ steps: 0 }, "steps", /a whole number from 1 to 1000$/],
      [{ scheduler: "ddim" }, "scheduler", /does not fit this model/],
      [{ guidanceScale: Number.NaN }, "guidanceScale", /a finite number$/],
      [{ seed: 2 ** 32 }, "seed", /from 0 to 4294967295$/],
    ];
    for (const [request, field, message] of rejected) {
      const expected = { name: "GenerationError", kind: "unsupported", field, message };
      assert.throws(() => resolveSettings({ ...heart, ...request }, limits), expected);
    }
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
