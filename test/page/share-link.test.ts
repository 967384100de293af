import assert from "node:assert/strict";
import test from "node:test";
import { emptyForm, formFromFragment, shareFragment, traceFromFragment } from "../../src/page/request/request-form.js";

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
