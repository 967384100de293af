import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import test from "node:test";
import { type Admission, createAdmission, type Place } from "../../src/worker/admission.js";

const never = new AbortController().signal;

function admitted(admission: Admission): Place {
  const result = admission.enter();
  assert.equal(result.kind, "admitted");
  return result.kind === "admitted" ? result.place : assert.fail();
}

test("the first request has its turn at once, without a position", async () => {
  const place = admitted(createAdmission());
  assert.deepEqual(await place.turn(never).next(), { done: true, value: undefined });
});

test("turns come in the order of entering, and positions are told as they change", async () => {
  const admission = createAdmission();
  const [first, second, third] = [admitted(admission), admitted(admission), admitted(admission)];
  const [waiting2, waiting3] = [second.turn(never), third.turn(never)];
  assert.equal((await waiting2.next()).value?.position, 0);
  assert.equal((await waiting3.next()).value?.position, 1);
  assert.equal(admission.waiting, 2);
  first.leave({ painted: true });
  assert.equal((await waiting2.next()).done, true);
  assert.equal((await waiting3.next()).value?.position, 0);
  second.leave({ painted: true });
  assert.equal((await waiting3.next()).done, true);
});

test("a full queue refuses at once, with an estimate from the paintings so far", async () => {
  let clock = 0;
  const admission = createAdmission({ maxWaiting: 1, now: () => clock });
  const timed = admitted(admission);
  clock = 1000;
  timed.leave({ painted: true });
  admitted(admission);
  clock = 1400;
  const waiting = admitted(admission).turn(never);
  assert.deepEqual((await waiting.next()).value, { position: 0, estimatedWaitMs: 600 });
  assert.deepEqual(admission.enter(), { kind: "full", retryAfterMs: 1600 });
});

test("with no waiting room, the second request is refused and the place is free again afterwards", () => {
  const admission = createAdmission({ maxWaiting: 0 });
  const place = admitted(admission);
  assert.equal(admission.enter().kind, "full");
  place.leave({ painted: true });
  place.leave({ painted: true });
  admitted(admission);
});

test("a request that is aborted while it waits throws the reason, and those behind it move up", async () => {
  const admission = createAdmission();
  admitted(admission);
  const leaver = admitted(admission);
  const behind = admitted(admission).turn(never);
  const controller = new AbortController();
  const waiting = leaver.turn(controller.signal);
  await waiting.next();
  assert.equal((await behind.next()).value?.position, 1);
  const next = behind.next();
  const left = waiting.next();
  controller.abort(new Error("left"));
  await assert.rejects(left, /left/);
  leaver.leave({ painted: true });
  assert.equal((await next).value?.position, 0);
  assert.equal(admission.waiting, 1);
});

test("a turn that comes together with the abort is not taken", async () => {
  const admission = createAdmission();
  const place = admitted(admission);
  await assert.rejects(place.turn(AbortSignal.abort(new Error("gone"))).next(), /gone/);
});

test("a nonsense bound is refused with the value", () => {
  assert.throws(() => createAdmission({ maxWaiting: -1 }), /maxWaiting must be a whole number of at least 0, got -1/);
});

test("only paintings that came to a picture count for the estimate", async () => {
  let clock = 0;
  const admission = createAdmission({ maxWaiting: 0, now: () => clock });
  const painted = admitted(admission);
  clock = 1000;
  painted.leave({ painted: true });
  for (let i = 0; i < 10; i++) {
    admitted(admission).leave({ painted: false });
  }
  admitted(admission);
  assert.deepEqual(admission.enter(), { kind: "full", retryAfterMs: 1000 });
});

test("while it is paused nobody gets a turn, and afterwards the first in the queue does", async () => {
  const admission = createAdmission();
  admission.setPaused(true);
  const waiting = admitted(admission).turn(never);
  assert.equal((await waiting.next()).value?.position, 0);
  admission.setPaused(false);
  assert.equal((await waiting.next()).done, true);
});

test("a long wait leaves one listener on the signal, and none afterwards", async () => {
  const admission = createAdmission({ maxWaiting: 30 });
  const places = Array.from({ length: 20 }, () => admitted(admission));
  const { signal } = new AbortController();
  const last = places.at(-1)?.turn(signal) ?? assert.fail();
  for (const place of places.slice(0, -1)) {
    assert.equal((await last.next()).done, false);
    assert.equal(getEventListeners(signal, "abort").length, 1);
    place.leave({ painted: true });
  }
  assert.equal((await last.next()).done, true);
  assert.equal(getEventListeners(signal, "abort").length, 0);
});
