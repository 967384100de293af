import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Code } from "@connectrpc/connect";
import { retryDelayMsOf } from "../../src/mesh/errors/errors.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { AdmissionError } from "../../src/worker/admission.js";
import { type DeadlineMiss, deadlineMiss } from "../../src/worker/deadline-check.js";
import { toConnectError } from "../../src/worker/errors.js";
import { createGenerationEstimate, type GenerationWork, generationWork } from "../../src/worker/generation-estimate.js";

const small: GenerationWork = { unetRuns: 4, latentPixels: 64 };
const large: GenerationWork = { unetRuns: 100, latentPixels: 1024 };

/** What a machine takes that runs the UNet in 0.01 ms a latent pixel, decodes in 0.1, and spends 50 ms besides. */
function taken({ unetRuns, latentPixels }: GenerationWork) {
  const denoisingMs = 0.01 * unetRuns * latentPixels;
  const vaeDecodeMs = 0.1 * latentPixels;
  return { denoisingMs, vaeDecodeMs, totalMs: 50 + denoisingMs + vaeDecodeMs };
}

describe("generation estimate", () => {
  it("estimate is 0 before the first generation", () => {
    const estimate = createGenerationEstimate();
    assert.deepEqual([estimate.generations, estimate.of(large)], [0, 0]);
  });

  it("estimate scales from one image size to another by their work", () => {
    const estimate = createGenerationEstimate();
    estimate.record(small, taken(small));
    assert.ok(Math.abs(estimate.of(small) - taken(small).totalMs) < 1e-9);
    assert.ok(Math.abs(estimate.of(large) - taken(large).totalMs) < 1e-6);
  });

  it("estimate does not treat fixed costs per run as costs per latent pixel", () => {
    const estimate = createGenerationEstimate();
    const runs = { unetRuns: 20, latentPixels: 64 };
    for (let i = 0; i < 5; i++) {
      estimate.record({ ...runs, latentPixels: 64 }, { denoisingMs: 2300, vaeDecodeMs: 0, totalMs: 2300 });
      estimate.record({ ...runs, latentPixels: 1024 }, { denoisingMs: 10_000, vaeDecodeMs: 0, totalMs: 10_000 });
    }
    assert.ok(Math.abs(estimate.of({ ...runs, latentPixels: 64 }) - 2300) < 1e-6);
    assert.ok(Math.abs(estimate.of({ ...runs, latentPixels: 1024 }) - 10_000) < 1e-6);
    assert.ok(Math.abs(estimate.of({ ...runs, latentPixels: 2048 }) - 20_000) < 1e-6);
  });

  it("estimate drops a size that was not generated for five minutes", () => {
    let clock = 0;
    const estimate = createGenerationEstimate(() => clock);
    estimate.record(small, taken(small));
    clock = 200_000;
    estimate.record(large, taken(large));
    assert.deepEqual(
      [estimate.generationsLike(small), estimate.generationsLike(large), estimate.generations],
      [1, 1, 2],
    );
    clock = 300_001;
    assert.deepEqual(
      [estimate.generationsLike(small), estimate.generationsLike(large), estimate.generations],
      [0, 1, 1],
    );
    clock = 600_000;
    assert.equal(estimate.of(large), 0);
  });

  it("estimate follows a slower machine without jumping for one slow image", () => {
    const estimate = createGenerationEstimate();
    estimate.record(small, { denoisingMs: 100, vaeDecodeMs: 0, totalMs: 100 });
    estimate.record(small, { denoisingMs: 200, vaeDecodeMs: 0, totalMs: 200 });
    assert.ok(estimate.of(small) > 100 && estimate.of(small) < 150, `${estimate.of(small)}`);
    for (let i = 0; i < 20; i++) {
      estimate.record(small, { denoisingMs: 200, vaeDecodeMs: 0, totalMs: 200 });
    }
    assert.ok(Math.abs(estimate.of(small) - 200) < 1, `${estimate.of(small)}`);
  });

  it("estimated work doubles the runs for guidance, except for models with embedded guidance", () => {
    const { limits } = createFakeEngine().info;
    const settings = {
      width: 256,
      height: 128,
      steps: 10,
      seed: 0,
      scheduler: "ddim",
      clipSkip: 0,
      guidanceRescale: 0,
    } as const;
    const runs = (guidanceScale: number, guidance: typeof limits.guidance) =>
      generationWork({ ...settings, guidanceScale }, { ...limits, guidance });
    assert.deepEqual(runs(5, "second-run"), { unetRuns: 20, latentPixels: 32 * 16 });
    assert.deepEqual(runs(1, "second-run"), { unetRuns: 10, latentPixels: 32 * 16 });
    assert.deepEqual(runs(5, "embedded"), { unetRuns: 10, latentPixels: 32 * 16 });
  });

  it("estimated work with an image counts the steps that run, and the encoding", () => {
    const { limits } = createFakeEngine().info;
    const settings = { width: 64, height: 64, steps: 10, guidanceScale: 5, seed: 0, scheduler: "ddim" } as const;
    const work = (strength: number) =>
      generationWork({ ...settings, clipSkip: 0, guidanceRescale: 0, strength }, limits);
    assert.deepEqual(work(0.35), { unetRuns: 6, latentPixels: 64, encodes: true });
    assert.deepEqual(work(1), { unetRuns: 20, latentPixels: 64, encodes: true });
  });

  it("an encoding counts as a decoding until one was measured, and not for images without one", () => {
    const estimate = createGenerationEstimate();
    estimate.record(small, { denoisingMs: 400, vaeDecodeMs: 30, totalMs: 430 });
    assert.equal(estimate.of(small), 430);
    assert.equal(estimate.of({ ...small, encodes: true }), 460);
    estimate.record({ ...small, encodes: true }, { vaeEncodeMs: 10, denoisingMs: 400, vaeDecodeMs: 30, totalMs: 440 });
    assert.equal(estimate.of({ ...small, encodes: true }), 440);
    assert.equal(estimate.of(small), 430);
  });
});

describe("deadline check", () => {
  const measured = (generations: number, ms: number) => {
    const estimate = createGenerationEstimate();
    for (let i = 0; i < generations; i++) {
      estimate.record(small, { denoisingMs: ms, vaeDecodeMs: 0, totalMs: ms });
    }
    return estimate;
  };

  it("deadline check rejects only after three generations, beyond half of the remaining time, and with a deadline", () => {
    const request = { work: small, waitMs: 500, remainingMs: 600 };
    assert.equal(deadlineMiss(measured(2, 500), request), undefined);
    assert.equal(deadlineMiss(measured(3, 400), request), undefined);
    assert.equal(deadlineMiss(measured(3, 500), { ...request, remainingMs: undefined }), undefined);
    const expected = { evenWithoutQueue: false, waitMs: 500, generationMs: 500, remainingMs: 600 };
    assert.deepEqual(deadlineMiss(measured(3, 500), request), expected);
  });

  it("deadline check does not reject for a call's own generation unless its size was generated three times recently", () => {
    const estimate = measured(20, 2300);
    const request = { work: { unetRuns: 20, latentPixels: 1024 }, waitMs: 0, remainingMs: 100 };
    assert.equal(deadlineMiss(estimate, request), undefined);
    assert.equal(deadlineMiss(estimate, { ...request, waitMs: 200 })?.evenWithoutQueue, false, "the wait is known");
    for (let i = 0; i < 3; i++) {
      assert.equal(deadlineMiss(estimate, request), undefined);
      estimate.record(request.work, { denoisingMs: 10_000, vaeDecodeMs: 0, totalMs: 10_000 });
    }
    assert.equal(deadlineMiss(estimate, request)?.evenWithoutQueue, true);
  });

  const rejected = (miss: DeadlineMiss & { readonly queuedMs?: number }) =>
    toConnectError(new AdmissionError({ kind: "deadline-miss", ...miss }), new AbortController().signal, () => "");

  it("deadline error for a long queue carries the numbers and allows a retry elsewhere", () => {
    const late = deadlineMiss(measured(3, 2000), { work: small, waitMs: 12_340, remainingMs: 5000 }) ?? assert.fail();
    const error = rejected({ ...late });
    assert.equal(error.code, Code.ResourceExhausted);
    assert.match(
      error.rawMessage,
      /wait is estimated at 12\.3 s, generation is estimated at 2\.0 s, and 5\.0 s are left$/,
    );
    assert.equal(retryDelayMsOf(error), 9340);
    assert.equal(error.metadata.get("grpc-retry-pushback-ms"), "0");
  });

  it("deadline error for a long generation carries the numbers and allows no retry", () => {
    const late = deadlineMiss(measured(3, 8000), { work: small, waitMs: 0, remainingMs: 5000 }) ?? assert.fail();
    const error = rejected({ ...late, queuedMs: 1500 });
    assert.equal(error.code, Code.DeadlineExceeded);
    assert.match(error.rawMessage, /queued for 1\.5 s, generation is estimated at 8\.0 s, and 5\.0 s are left$/);
    assert.equal(retryDelayMsOf(error), undefined);
  });
});
