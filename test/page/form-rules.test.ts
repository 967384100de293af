import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { ModelSchema, Scheduler } from "../../src/contracts/contracts.js";
import type { GenerationLimits } from "../../src/engine/engine.js";
import { checkForm, contractRules, defaultsOf, numberRules, rulesOf } from "../../src/page/request/form-rules.js";
import { emptyForm, type RequestForm, requestOf } from "../../src/page/request/request-form.js";
import { userErrorOf } from "../../src/page/request/user-error.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createTestMesh } from "../../src/testing/testing.js";

const side = { step: 32, minimum: 96, maximum: 512, default: 256 };
const ranged: GenerationLimits = {
  sizes: { width: side, height: { ...side, default: 128 }, vaeFactor: 8 },
  ownScheduler: "lcm",
  schedulers: {
    lcm: { defaultSteps: 4, maximumSteps: 50 },
    "euler-discrete": { defaultSteps: 4, maximumSteps: 1000 },
  },
  defaultGuidanceScale: 8.1,
  guidance: "embedded",
  maximumClipSkip: 0,
};
const only = { step: 64, minimum: 192, maximum: 192, default: 192 };
const fixed: GenerationLimits = { ...ranged, sizes: { width: only, height: only, vaeFactor: 8 } };

/** A pipeline with a model of these limits, and the model as it lists it. */
async function serve(t: TestContext, limits: GenerationLimits) {
  const mesh = await createTestMesh({ engine: createFakeEngine({ limits }) });
  t.after(() => mesh.stop());
  const [model] = (await mesh.pipeline.listModels({})).models;
  assert.ok(model !== undefined);
  return {
    model,
    /** Messages at the fields of a form that the page does not check. */
    rejected: (form: RequestForm) =>
      mesh.pipeline.generate(requestOf(form)).then(
        () => ({}),
        (error: unknown) => Object.fromEntries(userErrorOf(error).fields),
      ),
  };
}

const form = (fields: Partial<RequestForm>): RequestForm => ({ ...emptyForm, prompt: "a red heart", ...fields });

suite("form of a known model", () => {
  for (const { what, limits, fields } of [
    { what: "a size that is no multiple", limits: ranged, fields: { width: "104", height: "512" } },
    { what: "sizes outside the range", limits: ranged, fields: { width: "64", height: "544" } },
    { what: "another than its one size", limits: fixed, fields: { width: "128", height: "192" } },
    { what: "too many steps", limits: ranged, fields: { steps: "51" } },
    {
      what: "too many steps with its own scheduler by name",
      limits: ranged,
      fields: { steps: "51", scheduler: "lcm" },
    },
    { what: "a scheduler that does not fit", limits: ranged, fields: { scheduler: "ddim" } },
    { what: "several at once", limits: ranged, fields: { width: "72", height: "72", steps: "150" } },
  ]) {
    test(`page and service reject ${what} with the same messages`, async (t) => {
      const { model, rejected } = await serve(t, limits);
      const asked = form(fields);
      const messages = Object.fromEntries(checkForm(asked, rulesOf(model, asked.scheduler)));
      assert.notDeepEqual(messages, {});
      assert.deepEqual(messages, await rejected(asked));
    });
  }

  for (const fields of [
    { width: "96", height: "512", steps: "50" },
    { steps: "150", scheduler: "euler-discrete" },
  ]) {
    test(`page and service accept ${JSON.stringify(fields)}`, async (t) => {
      const { model, rejected } = await serve(t, ranged);
      const asked = form(fields);
      assert.deepEqual([...checkForm(asked, rulesOf(model, asked.scheduler))], []);
      assert.deepEqual(await rejected(asked), {});
    });
  }

  test("its defaults are those that absent options take", async (t) => {
    const { model } = await serve(t, ranged);
    const defaults = { width: "256", height: "128", steps: "4", guidance: "8.1", scheduler: "lcm" };
    assert.deepEqual(defaultsOf(model, ""), defaults);
    assert.deepEqual(defaultsOf(model, "lcm"), defaults);
    const { steps: _, ...others } = defaults;
    assert.deepEqual(defaultsOf(model, "euler-discrete"), others, "another scheduler can have other steps");
  });

  test("its schedulers can be chosen, and the limits of guidance and seed stay the contract's", async (t) => {
    const { model } = await serve(t, ranged);
    const { schedulers, numbers } = rulesOf(model, "");
    assert.deepEqual(schedulers, ["euler-discrete", "lcm"]);
    assert.deepEqual([numbers.guidance, numbers.seed], [numberRules.guidance, numberRules.seed]);
  });
});

suite("form of an unknown model", () => {
  test("the contract's limits apply, and there are no defaults", () => {
    assert.equal(rulesOf(undefined, "ddim"), contractRules);
    assert.deepEqual(defaultsOf(undefined, ""), {});
    assert.deepEqual([...checkForm(form({ scheduler: "ddim", steps: "150" }))], []);
  });

  test("a description without limits has the contract's", () => {
    const model = create(ModelSchema, { name: "older", defaults: { scheduler: Scheduler.UNSPECIFIED } });
    // Its worker knows neither LoRAs nor images to start from.
    assert.deepEqual(rulesOf(model, ""), { ...contractRules, loras: [], takesImage: false });
    assert.deepEqual(defaultsOf(model, ""), {});
  });
});
