import assert from "node:assert/strict";
import test, { describe } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Delivery, GenerateRequestSchema, Scheduler, SchedulerSchema } from "../../src/contracts/contracts.js";
import { checkForm, contractRules, numberRules } from "../../src/page/request/form-rules.js";
import { lorasOf, withLora } from "../../src/page/request/loras.js";
import {
  emptyForm,
  fieldFor,
  formFromFragment,
  requestOf,
  schedulers,
  shareFragment,
  traceFromFragment,
} from "../../src/page/request/request-form.js";

test("empty field is omitted, and the image is delivered in the response", () => {
  assert.deepEqual(requestOf({ ...emptyForm, prompt: "a red heart" }), {
    prompt: "a red heart",
    workerApp: "",
    options: { delivery: Delivery.DATA_URI, previewInterval: 1 },
  });
});

test("filled fields are sent, including 0", () => {
  const form = {
    prompt: "a red heart",
    negativePrompt: "blue",
    workerApp: "local/other",
    width: "128",
    height: "64",
    steps: "90",
    guidance: "0",
    seed: "0",
    scheduler: "dpmpp-2m-karras",
    loras: "pixel:0.5,gh%2Ci%3A%20bli,flat:0",
    strength: "0.25",
  };
  assert.deepEqual(requestOf(form), {
    prompt: "a red heart",
    workerApp: "local/other",
    options: {
      negativePrompt: "blue",
      width: 128,
      height: 64,
      numInferenceSteps: 90,
      guidanceScale: 0,
      seed: 0,
      scheduler: Scheduler.DPMPP_2M_KARRAS,
      loras: [{ name: "pixel", scale: 0.5 }, { name: "gh,i: bli" }, { name: "flat", scale: 0 }],
      delivery: Delivery.DATA_URI,
      previewInterval: 3,
    },
  });
});

test("image to start from is sent with its strength, which is not sent alone", () => {
  const form = { ...emptyForm, prompt: "a red heart" };
  const bytes = Uint8Array.of(1, 2, 3);
  const optionsOf = (request: ReturnType<typeof requestOf>) => {
    const { options } = create(GenerateRequestSchema, request);
    return [options?.initImage, options?.strength];
  };
  assert.deepEqual(optionsOf(requestOf({ ...form, strength: "0.5" }, bytes)), [bytes, 0.5]);
  assert.deepEqual(optionsOf(requestOf(form, bytes)), [bytes, undefined]);
  assert.deepEqual(optionsOf(requestOf({ ...form, strength: "0.5" })), [undefined, undefined]);
});

test("LoRAs are added, changed in their place, and removed", () => {
  let text = withLora("", "pixel", "");
  text = withLora(text, "a,b:c %", "0,5");
  text = withLora(text, "pixel", "0.8");
  assert.deepEqual(lorasOf(text), [
    { name: "pixel", scale: "0.8" },
    { name: "a,b:c %", scale: "0,5" },
  ]);
  assert.equal(text, "pixel:0.8,a%2Cb%3Ac%20%25:0%2C5");
  assert.equal(withLora(withLora(text, "pixel", undefined), "a,b:c %", undefined), "");
  assert.deepEqual(lorasOf("%zz:1,,:2"), [{ name: "%zz", scale: "1" }]);
});

test("LoRAs that cannot be sent are marked", () => {
  const check = (loras: string, known?: readonly string[]) =>
    checkForm({ ...emptyForm, prompt: "x", loras }, { ...contractRules, loras: known }).get("loras");
  assert.equal(check("pixel:10,flat:-10,other"), undefined);
  assert.equal(check("pixel", ["pixel"]), undefined);
  assert.equal(check("pixel,other", ["pixel"]), "This model has no LoRA other: remove it.");
  assert.equal(check("pixel:11"), "The scale of pixel is a number from -10 to 10.");
  assert.equal(check("pixel:0%2C5"), "The scale of pixel is a number from -10 to 10.");
  assert.equal(check("1,2,3,4,5,6,7,8"), undefined);
  assert.equal(check("1,2,3,4,5,6,7,8,9"), "9 LoRAs are too many: at most 8 are taken.");
});

test("strength is checked only with an image to start from, and an image only for a model that takes one", () => {
  const form = { ...emptyForm, prompt: "x", strength: "2" };
  assert.deepEqual([...checkForm(form)], []);
  assert.deepEqual([...checkForm(form, contractRules, true)], [["strength", "A number from 0 to 1."]]);
  const rules = { ...contractRules, takesImage: false };
  assert.deepEqual([...checkForm({ ...form, strength: "" }, rules, false)], []);
  assert.deepEqual(
    [...checkForm({ ...form, strength: "" }, rules, true)],
    [["initImage", "This model takes no image to start from. Remove it."]],
  );
});

test("each field that the contract would reject is marked with its limits", () => {
  const wrong = checkForm({
    ...emptyForm,
    prompt: " ",
    negativePrompt: "x".repeat(2001),
    width: "100",
    height: "4096",
    steps: "1.5",
    guidance: "31",
    seed: "-1",
  });
  assert.deepEqual(Object.fromEntries(wrong), {
    prompt: "Enter a prompt.",
    negativePrompt: "2001 characters are too many: at most 2000 are taken.",
    width: "A multiple of 8 from 64 to 2048.",
    height: "A multiple of 8 from 64 to 2048.",
    steps: "A whole number from 1 to 150.",
    guidance: "A number from 0 to 30.",
    seed: "A whole number from 0 to 4294967295. Leave it empty for a random one.",
  });
});

test("form at the limits is valid", () => {
  const form = { ...emptyForm, prompt: "😀".repeat(2000), width: "64", height: "2048", steps: "150", guidance: "7.5" };
  assert.equal(checkForm({ ...form, seed: String(numberRules.seed.max) }).size, 0);
});

test("text that is no number is rejected", () => {
  assert.deepEqual([...checkForm({ ...emptyForm, prompt: "x", steps: "many", seed: "NaN" }).keys()], ["steps", "seed"]);
});

test("field path of the contract maps to its form field", () => {
  assert.equal(fieldFor("request.options.num_inference_steps"), "steps");
  assert.equal(fieldFor("options.width"), "width");
  assert.equal(fieldFor("options.loras.name"), "loras");
  assert.equal(fieldFor("request.options.init_image"), "initImage");
  assert.equal(fieldFor("prompt"), "prompt");
  assert.equal(fieldFor("options.format"), undefined);
});

describe("share link", () => {
  const form = {
    prompt: "ein Herz & 100 % 'rot' <b>#1</b> 😀",
    negativePrompt: "a=b",
    workerApp: "local/text-to-image-worker",
    width: "128",
    height: "64",
    steps: "12",
    guidance: "4.5",
    seed: "7",
    scheduler: "ddim",
    loras: "pixel:0.5,gh%2Ci%3A%20bli",
    strength: "0.25",
  };

  test("share link restores its form", () => {
    assert.deepEqual(formFromFragment(shareFragment(form)), form);
    assert.deepEqual(formFromFragment(new URL(`http://127.0.0.1/${shareFragment(form)}`).hash), form);
  });

  test("share link omits default values", () => {
    assert.equal(shareFragment({ ...emptyForm, prompt: "a red heart", seed: "7" }), "#prompt=a+red+heart&seed=7");
  });

  test("fragment without form fields is ignored", () => {
    assert.equal(formFromFragment(""), undefined);
    assert.equal(formFromFragment("#image"), undefined);
    assert.equal(formFromFragment("#constructor=1&__proto__=2"), undefined);
  });

  test("a link to a trace gives its id, and no form", () => {
    const traceId = "4e59a70947e16460dd0641a9b92f3047";
    assert.equal(traceFromFragment(`#trace=${traceId}`), traceId);
    assert.equal(formFromFragment(`#trace=${traceId}`), undefined);
    assert.deepEqual(["", "#trace=", `#trace=${traceId}0`, "#prompt=a"].map(traceFromFragment), [
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });

  test("long values in a share link are cut by code points", () => {
    const read = formFromFragment(`#prompt=${"😀".repeat(3000)}&steps=${"9".repeat(1000)}`);
    assert.equal([...(read?.prompt ?? "")].length, 2000);
    assert.equal(read?.steps.length, 128);
  });
});

test("form offers every scheduler of the contract", () => {
  const known = SchedulerSchema.values.filter(({ number }) => number !== 0).map(({ number }) => number);
  assert.deepEqual(Array.from(schedulers.values(), ({ value }) => value).sort(), known.sort());
});
