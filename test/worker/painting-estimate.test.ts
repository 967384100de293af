import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { retryDelayMsOf } from "../../src/mesh/errors/errors.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { tooLate, tooLateError } from "../../src/worker/deadline-check.js";
import { createPaintingEstimate, type PaintingWork, paintingWork } from "../../src/worker/painting-estimate.js";

const small: PaintingWork = { unetRuns: 4, latentPixels: 64 };
const large: PaintingWork = { unetRuns: 100, latentPixels: 1024 };

/** What a machine takes that runs the UNet in 0.01 ms a latent pixel, decodes in 0.1, and spends 50 ms besides. */
function taken({ unetRuns, latentPixels }: PaintingWork) {
  const denoisingMs = 0.01 * unetRuns * latentPixels;
  const vaeDecodeMs = 0.1 * latentPixels;
  return { denoisingMs, vaeDecodeMs, totalMs: 50 + denoisingMs + vaeDecodeMs };
}

describe("painting estimate", () => {
  it("is nothing before something was painted", () => {
    const estimate = createPaintingEstimate();
    assert.deepEqual([estimate.paintings, estimate.of(large)], [0, 0]);
  });

  it("goes from one kind of picture to another by their work", () => {
    const estimate = createPaintingEstimate();
    estimate.learn(small, taken(small));
    assert.ok(Math.abs(estimate.of(small) - taken(small).totalMs) < 1e-9);
    assert.ok(Math.abs(estimate.of(large) - taken(large).totalMs) < 1e-6);
  });

  it("does not take what small pictures pay for each run for a cost of every latent", () => {
    const estimate = createPaintingEstimate();
    const runs = { unetRuns: 20, latentPixels: 64 };
    for (let i = 0; i < 5; i++) {
      estimate.learn({ ...runs, latentPixels: 64 }, { denoisingMs: 2300, vaeDecodeMs: 0, totalMs: 2300 });
      estimate.learn({ ...runs, latentPixels: 1024 }, { denoisingMs: 10_000, vaeDecodeMs: 0, totalMs: 10_000 });
    }
    assert.ok(Math.abs(estimate.of({ ...runs, latentPixels: 64 }) - 2300) < 1e-6);
    assert.ok(Math.abs(estimate.of({ ...runs, latentPixels: 1024 }) - 10_000) < 1e-6);
    assert.ok(Math.abs(estimate.of({ ...runs, latentPixels: 2048 }) - 20_000) < 1e-6);
  });

  it("forgets a size that has not been painted for five minutes", () => {
    let clock = 0;
    const estimate = createPaintingEstimate(() => clock);
    estimate.learn(small, taken(small));
    clock = 200_000;
    estimate.learn(large, taken(large));
    assert.deepEqual([estimate.paintingsLike(small), estimate.paintingsLike(large), estimate.paintings], [1, 1, 2]);
    clock = 300_001;
    assert.deepEqual([estimate.paintingsLike(small), estimate.paintingsLike(large), estimate.paintings], [0, 1, 1]);
    clock = 600_000;
    assert.equal(estimate.of(large), 0);
  });

  it("follows a machine that has become slower, without jumping for one slow picture", () => {
    const estimate = createPaintingEstimate();
    estimate.learn(small, { denoisingMs: 100, vaeDecodeMs: 0, totalMs: 100 });
    estimate.learn(small, { denoisingMs: 200, vaeDecodeMs: 0, totalMs: 200 });
    assert.ok(estimate.of(small) > 100 && estimate.of(small) < 150, `${estimate.of(small)}`);
    for (let i = 0; i < 20; i++) {
      estimate.learn(small, { denoisingMs: 200, vaeDecodeMs: 0, totalMs: 200 });
    }
    assert.ok(Math.abs(estimate.of(small) - 200) < 1, `${estimate.of(small)}`);
  });

  it("knows the work of a request: guidance doubles the runs, unless the model guides itself", () => {
    const { limits } = createFakeEngine().info;
    const settings = { width: 256, height: 128, steps: 10, seed: 0, scheduler: "ddim" } as const;
    const runs = (guidanceScale: number, guidance: typeof limits.guidance) =>
      paintingWork({ ...settings, guidanceScale }, { ...limits, guidance });
    assert.deepEqual(runs(5, "second-run"), { unetRuns: 20, latentPixels: 32 * 16 });
    assert.deepEqual(runs(1, "second-run"), { unetRuns: 10, latentPixels: 32 * 16 });
    assert.deepEqual(runs(5, "embedded"), { unetRuns: 10, latentPixels: 32 * 16 });
  });
});

describe("a call that will be too late", () => {
  const measured = (paintings: number, ms: number) => {
    const estimate = createPaintingEstimate();
    for (let i = 0; i < paintings; i++) {
      estimate.learn(small, { denoisingMs: ms, vaeDecodeMs: 0, totalMs: ms });
    }
    return estimate;
  };

  it("is one only by three paintings, by more than half of what is left, and with a deadline", () => {
    const request = { work: small, waitMs: 500, remainingMs: 600 };
    assert.equal(tooLate(measured(2, 500), request), undefined);
    assert.equal(tooLate(measured(3, 400), request), undefined);
    assert.equal(tooLate(measured(3, 500), { ...request, remainingMs: undefined }), undefined);
    const expected = { evenAlone: false, waitMs: 500, paintingMs: 500, remainingMs: 600 };
    assert.deepEqual(tooLate(measured(3, 500), request), expected);
  });

  it("is none for its own painting where its size was not painted three times of late", () => {
    const estimate = measured(20, 2300);
    const request = { work: { unetRuns: 20, latentPixels: 1024 }, waitMs: 0, remainingMs: 100 };
    assert.equal(tooLate(estimate, request), undefined);
    assert.equal(tooLate(estimate, { ...request, waitMs: 200 })?.evenAlone, false, "the wait is known");
    for (let i = 0; i < 3; i++) {
      assert.equal(tooLate(estimate, request), undefined);
      estimate.learn(request.work, { denoisingMs: 10_000, vaeDecodeMs: 0, totalMs: 10_000 });
    }
    assert.equal(tooLate(estimate, request)?.evenAlone, true);
  });

  it("is told the numbers: a queue that is too long may help later or elsewhere", () => {
    const late = tooLate(measured(3, 2000), { work: small, waitMs: 12_340, remainingMs: 5000 }) ?? assert.fail();
    const error = tooLateError(late);
    assert.ok(error instanceof ConnectError);
    assert.equal(error.code, Code.ResourceExhausted);
    assert.match(
      error.rawMessage,
      /wait is estimated at 12\.3 s, painting is estimated at 2\.0 s, and 5\.0 s are left$/,
    );
    assert.equal(retryDelayMsOf(error), 9340);
    assert.equal(error.metadata.get("grpc-retry-pushback-ms"), "0");
  });

  it("is told the numbers: a picture that takes too long by itself helps nobody", () => {
    const late = tooLate(measured(3, 8000), { work: small, waitMs: 0, remainingMs: 5000 }) ?? assert.fail();
    const error = tooLateError(late, 1500);
    assert.equal(error.code, Code.DeadlineExceeded);
    assert.match(error.rawMessage, /queued for 1\.5 s, painting is estimated at 8\.0 s, and 5\.0 s are left$/);
    assert.equal(retryDelayMsOf(error), undefined);
  });
});
