import assert from "node:assert/strict";
import test, { describe } from "node:test";
import { Delivery, Scheduler, SchedulerSchema } from "../../src/contracts/contracts.js";
import { checkForm, numberRules } from "../../src/page/request/form-rules.js";
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
      delivery: Delivery.DATA_URI,
      previewInterval: 3,
    },
  });
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
