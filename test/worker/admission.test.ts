import assert from "node:assert/strict";
import { getEventListeners, setMaxListeners } from "node:events";
import test from "node:test";
import {
  type Admission,
  type AdmissionRequest,
  createAdmission,
  type QueuePosition,
  type Slot,
} from "../../src/worker/admission.js";
import { createRandom } from "../mesh/support/random.js";

const never = new AbortController().signal;
const work = { unetRuns: 4, latentPixels: 64 };
const anybody: AdmissionRequest = { caller: "anybody", work };
const generated = { denoisingMs: 0, vaeDecodeMs: 0 };

function admitted(admission: Admission, request: Partial<AdmissionRequest> = {}): Slot {
  const result = admission.admit({ ...anybody, ...request });
  assert.equal(result.kind, "admitted");
  return result.kind === "admitted" ? result.slot : assert.fail();
}

/** Waits for the turn of a slot: `next` gives each position that is reported, and is done when the turn has come. */
function turnOf(slot: Slot, signal = new AbortController().signal) {
  const reported: QueuePosition[] = [];
  let wake = () => {};
  const turn = slot.acquire(signal, (position) => {
    reported.push(position);
    wake();
  });
  turn.catch(() => {});
  return {
    async next(): Promise<{ readonly done: boolean; readonly value: QueuePosition | undefined }> {
      if (reported.length === 0) {
        await Promise.race([turn, new Promise<void>((resolve) => (wake = resolve))]);
      }
      const value = reported.shift();
      return { done: value === undefined, value };
    },
  };
}

test("first request gets its turn at once without a position", async () => {
  const place = admitted(createAdmission());
  assert.deepEqual(await turnOf(place).next(), { done: true, value: undefined });
});

test("turns follow the order of arrival, and positions are reported as they change", async () => {
  const admission = createAdmission();
  const [first, second, third] = [admitted(admission), admitted(admission), admitted(admission)];
  const [waiting2, waiting3] = [turnOf(second), turnOf(third)];
  assert.equal((await waiting2.next()).value?.position, 0);
  assert.equal((await waiting3.next()).value?.position, 1);
  assert.equal(admission.waiting, 2);
  first.release(generated);
  assert.equal((await waiting2.next()).done, true);
  assert.equal((await waiting3.next()).value?.position, 0);
  second.release(generated);
  assert.equal((await waiting3.next()).done, true);
});

test("full queue rejects at once with an estimate from earlier generations", async () => {
  let clock = 0;
  const admission = createAdmission({ maxWaiting: 1, now: () => clock });
  const timed = admitted(admission);
  clock = 1000;
  timed.release(generated);
  admitted(admission);
  clock = 1400;
  const waiting = turnOf(admitted(admission));
  assert.deepEqual((await waiting.next()).value, { position: 0, estimatedWaitMs: 600 });
  assert.deepEqual(admission.admit(anybody), { kind: "full", retryAfterMs: 1600 });
});

test("queue of length 0 rejects a second request, and the slot is free again after release", () => {
  const admission = createAdmission({ maxWaiting: 0 });
  const place = admitted(admission);
  assert.equal(admission.admit(anybody).kind, "full");
  place.release(generated);
  place.release(generated);
  admitted(admission);
});

test("aborted waiting request throws the reason, and later requests move up", async () => {
  const admission = createAdmission();
  admitted(admission);
  const cancelledRequest = admitted(admission);
  const behind = turnOf(admitted(admission));
  const controller = new AbortController();
  const waiting = turnOf(cancelledRequest, controller.signal);
  await waiting.next();
  assert.equal((await behind.next()).value?.position, 1);
  const next = behind.next();
  const left = waiting.next();
  controller.abort(new Error("left"));
  await assert.rejects(left, /left/);
  cancelledRequest.release(generated);
  assert.equal((await next).value?.position, 0);
  assert.equal(admission.waiting, 1);
});

test("turn that arrives together with the abort is not taken", async () => {
  const admission = createAdmission();
  const place = admitted(admission);
  await assert.rejects(place.acquire(AbortSignal.abort(new Error("gone"))), /gone/);
});

test("invalid queue length is rejected with its value", () => {
  assert.throws(() => createAdmission({ maxWaiting: -1 }), /maxWaiting must be a whole number of at least 0, got -1/);
});

test("only completed generations count for the estimate", async () => {
  let clock = 0;
  const admission = createAdmission({ maxWaiting: 0, now: () => clock });
  const timed = admitted(admission);
  clock = 1000;
  timed.release(generated);
  for (let i = 0; i < 10; i++) {
    admitted(admission).release();
  }
  admitted(admission);
  assert.deepEqual(admission.admit(anybody), { kind: "full", retryAfterMs: 1000 });
});

test("paused admission gives no turns, and the first in the queue gets one afterwards", async () => {
  const admission = createAdmission();
  const lost = admitted(admission);
  const waiting = turnOf(admitted(admission));
  admission.setPaused(true);
  lost.release();
  assert.equal((await waiting.next()).value?.position, 0);
  assert.deepEqual(admission.admit(anybody), { kind: "paused" });
  admission.setPaused(false);
  assert.equal((await waiting.next()).done, true);
});

test("long wait keeps one listener on the signal and none afterwards", async () => {
  const admission = createAdmission({ maxWaiting: 30 });
  const places = Array.from({ length: 20 }, () => admitted(admission));
  const { signal } = new AbortController();
  const last = turnOf(places.at(-1) ?? assert.fail(), signal);
  for (const place of places.slice(0, -1)) {
    assert.equal((await last.next()).done, false);
    assert.equal(getEventListeners(signal, "abort").length, 1);
    place.release(generated);
  }
  assert.equal((await last.next()).done, true);
  assert.equal(getEventListeners(signal, "abort").length, 0);
});

test("new caller waits for one image, not for all images of another caller", async () => {
  let clock = 0;
  const admission = createAdmission({ now: () => clock });
  const measuring = admitted(admission);
  clock += 1000;
  measuring.release(generated);
  const greedy = Array.from({ length: 10 }, () => admitted(admission, { caller: "greedy" }));
  const second = turnOf(greedy[1] ?? assert.fail());
  assert.equal((await second.next()).value?.position, 0);
  const modest = turnOf(admitted(admission, { caller: "modest" }));
  assert.deepEqual((await modest.next()).value, { position: 0, estimatedWaitMs: 1000 });
  assert.deepEqual((await second.next()).value, { position: 1, estimatedWaitMs: 2000 });
  clock += 1000;
  greedy[0]?.release(generated);
  assert.equal((await modest.next()).done, true);
});

test("request is estimated by its own work and that of the requests before it", async () => {
  let clock = 0;
  const admission = createAdmission({ now: () => clock });
  const measuring = admitted(admission);
  clock += 100;
  measuring.release({ denoisingMs: 100, vaeDecodeMs: 0 });
  admitted(admission, { work: { unetRuns: 100, latentPixels: 1024 } });
  const waiting = turnOf(admitted(admission));
  assert.equal((await waiting.next()).value?.estimatedWaitMs, 100 * 25 * 16);
});

test("full queue evicts the newest request of the caller with the most for another caller", async () => {
  const admission = createAdmission({ maxWaiting: 3 });
  admitted(admission, { caller: "greedy" });
  const greedy = Array.from({ length: 3 }, () => turnOf(admitted(admission, { caller: "greedy" })));
  await Promise.all(greedy.map((turn) => turn.next()));
  const enter = (caller: string) => admission.admit({ ...anybody, caller }).kind;
  const newest = assert.rejects(greedy[2]?.next() ?? assert.fail(), { name: "AdmissionError" });
  assert.deepEqual([enter("greedy"), enter("modest")], ["full", "admitted"]);
  await newest;
  // Two and one are as even as it gets for these two; a third caller finds two at the first one.
  assert.deepEqual(
    [enter("greedy"), enter("modest"), enter("third"), enter("fourth")],
    ["full", "full", "admitted", "full"],
  );
  assert.equal(admission.waiting, 3);
});

test("call that cannot meet its deadline is rejected at once, after at least three measured generations", () => {
  let clock = 0;
  const admission = createAdmission({ now: () => clock });
  const enter = (remainingMs: number) => admission.admit({ ...anybody, remainingMs });
  for (let i = 0; i < 3; i++) {
    const place = enter(1);
    clock += 1000;
    (place.kind === "admitted" ? place.slot : assert.fail()).release(generated);
  }
  const alone = { kind: "deadline-miss", evenWithoutQueue: true, waitMs: 0, generationMs: 1000, remainingMs: 600 };
  assert.deepEqual(enter(600), alone);
  const runs = admitted(admission, { remainingMs: 700 });
  assert.deepEqual(enter(1300), { ...alone, evenWithoutQueue: false, waitMs: 1000, remainingMs: 1300 });
  assert.equal(admission.waiting, 0);
  const waits = admitted(admission, { remainingMs: 1400 });
  assert.equal(runs.deadlineMiss(600)?.evenWithoutQueue, true);
  assert.equal(waits.deadlineMiss(700), undefined);
});

test("random histories: every reported position is the number of turns before it when nothing else changes", async () => {
  const { below } = createRandom(7);
  for (let history = 0; history < 50; history++) {
    let clock = 0;
    const admission = createAdmission({ now: () => clock, maxWaiting: 30 });
    const measuring = admitted(admission);
    clock += 256;
    measuring.release({ denoisingMs: 256, vaeDecodeMs: 0 });
    const turns: { readonly place: Slot; readonly turn: ReturnType<typeof turnOf>; readonly costMs: number }[] = [];
    for (let i = 0; i < 2 + below(20); i++) {
      const unetRuns = 1 + below(50);
      const place = admitted(admission, { caller: `${below(4)}`, work: { unetRuns, latentPixels: 64 } });
      turns.push({ place, turn: turnOf(place), costMs: unetRuns * 64 });
    }
    // The first has its turn already; each of the others reports its position and estimated wait.
    const reportedPositions = await Promise.all(turns.map(async ({ turn }) => (await turn.next()).value));
    const promised = turns.flatMap((entry, index) => {
      const standing = reportedPositions[index];
      return standing === undefined ? [] : [{ ...entry, ...standing }];
    });
    promised.sort((one, other) => one.position - other.position);
    const start = clock;
    clock += turns[0]?.costMs ?? 0;
    turns[0]?.place.release({ denoisingMs: clock - start, vaeDecodeMs: 0 });
    for (const [index, { place, turn, position, estimatedWaitMs, costMs }] of promised.entries()) {
      let next = await turn.next();
      while (next.value !== undefined) {
        assert.ok(next.value.position < position, "a position only falls while nobody comes");
        next = await turn.next();
      }
      assert.equal(position, index);
      assert.ok(Math.abs(clock - start - estimatedWaitMs) < 1e-6);
      clock += costMs;
      place.release({ denoisingMs: costMs, vaeDecodeMs: 0 });
    }
  }
});

test("1,000 cancelled waiting requests cause one report to those that remain", async () => {
  const count = 1000;
  const admission = createAdmission({ maxWaiting: 2 * count });
  admitted(admission);
  const leaving = new AbortController();
  setMaxListeners(0, leaving.signal, never);
  const cancelledRequests = Array.from({ length: count }, () => admitted(admission));
  const left = cancelledRequests.map((slot) =>
    assert.rejects(slot.acquire(leaving.signal).finally(slot.release), /left/),
  );
  const reports: number[][] = Array.from({ length: count }, () => []);
  const remaining = reports.map((positions) => {
    const slot = admitted(admission);
    void slot.acquire(never, ({ position }) => positions.push(position));
    return slot;
  });
  const allHave = async (number: number) => {
    while (reports.some(({ length }) => length < number)) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await allHave(1);
  leaving.abort(new Error("left"));
  await Promise.all(left);
  assert.equal(admission.waiting, count);
  await allHave(2);
  assert.deepEqual(
    reports,
    remaining.map((_, index) => [count + index, index]),
  );
});
