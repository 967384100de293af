import assert from "node:assert/strict";
import test from "node:test";
import { Delivery, Scheduler } from "../../src/contracts/contracts.js";
import { checkForm, emptyForm, fieldFor, numberRules, requestOf } from "../../src/page/request/request-form.js";

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
