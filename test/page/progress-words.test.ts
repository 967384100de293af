import assert from "node:assert/strict";
import test from "node:test";
import { Stage } from "../../src/contracts/contracts.js";
import type { Running } from "../../src/page/request/generation.js";
import { phaseLabel, progressDetail, progressText } from "../../src/page/request/progress-text.js";

const sent: Running = {
  kind: "running",
  phase: { kind: "sent" },
  step: 0,
  totalSteps: 0,
  marks: [],
  preview: undefined,
};
const queued = (position: number, estimatedWaitMs: number): Running => ({
  ...sent,
  phase: { kind: "queued", position, estimatedWaitMs },
});
const at = (stage: Stage, step = 0, totalSteps = 0): Running => ({
  ...sent,
  phase: { kind: "stage", stage },
  step,
  totalSteps,
});

test("waiting request shows its position and the estimated wait when known", () => {
  assert.equal(phaseLabel(queued(2, 0)), "Waiting: 2 before you");
  assert.equal(phaseLabel(queued(0, 0)), "Waiting: next in line");
  assert.equal(progressDetail(queued(2, 0), undefined), "");
  assert.equal(progressDetail(queued(2, 3400), undefined), "begins in about 3 s");
});

test("generation shows its step and the remaining time", () => {
  assert.equal(phaseLabel(at(Stage.DENOISING, 5, 20)), "Generation");
  assert.equal(progressDetail(at(Stage.DENOISING, 5, 20), undefined), "step 5 of 20");
  assert.equal(progressDetail(at(Stage.DENOISING, 5, 20), 2600), "step 5 of 20, about 3 s left");
  assert.equal(progressDetail(at(Stage.VAE_DECODE, 20, 20), undefined), "");
  assert.equal(phaseLabel(at(99 as Stage)), "Working", "a stage of a newer service");
});

test("screen reader announces three phases of a generation", () => {
  const heard = [
    sent,
    queued(1, 0),
    at(Stage.TEXT_ENCODING),
    ...Array.from({ length: 21 }, (_, step) => at(Stage.DENOISING, step, 20)),
  ].map(progressText);
  assert.deepEqual([...new Set(heard)], ["", "Waiting: 1 before you", "Generation", "Half done"]);
});
