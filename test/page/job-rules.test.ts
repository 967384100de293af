import assert from "node:assert/strict";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { Delivery, GenerateRequestSchema, Scheduler, Stage } from "../../src/contracts/contracts.js";
import { JobPriority, JobState } from "../../src/gen/throughline/v1/job_pb.js";
import {
  entryOf,
  idsToWatch,
  type JobEntry,
  type KnownJobs,
  newestFirst,
  withListing,
} from "../../src/page/jobs/job-entry.js";
import { askOf, jobRequestOf } from "../../src/page/jobs/job-form.js";
import { countText, errorText, notesOf, stateText } from "../../src/page/jobs/job-text.js";
import { emptyForm, fieldFor } from "../../src/page/request/request-form.js";
import { maxStreams, newId } from "../../src/page/service/browser.js";
import { firstMs, idOf, madeJob } from "./support/made-jobs.js";

const knows = (...entries: readonly JobEntry[]): KnownJobs => new Map(entries.map((entry) => [entry.job.id, entry]));
const idle = { isWatched: () => false, isGone: () => false };
const numbersOf = (known: KnownJobs) => newestFirst(known).map(({ job }) => Number.parseInt(job.id, 16));
const running = (step: number, attempt = 1) =>
  madeJob(1, {
    state: JobState.RUNNING,
    attempt,
    detail: {
      case: "progress",
      value: { stage: Stage.DENOISING, step, totalSteps: 8, preview: Uint8Array.of(...(step === 2 ? [7] : [])) },
    },
  });

test("a job's preview and pace last as long as its attempt", () => {
  const second = entryOf(running(2), undefined, 1, 100);
  const third = entryOf(running(3), second, 2, 200);
  assert.deepEqual([...(third.running?.preview?.bytes ?? [])], [7]);
  assert.deepEqual(
    third.running?.marks.map(({ step }) => step),
    [2, 3],
  );
  const again = entryOf(running(1, 2), third, 3, 300);
  assert.deepEqual([again.running?.preview, again.running?.marks.length], [undefined, 1]);
  const done = entryOf(madeJob(1, { state: JobState.SUCCEEDED }), again, 4, 400);
  assert.equal(done.running, undefined);
});

test("a listing adds new jobs, takes deleted ones out, and leaves older ones that it does not cover", () => {
  const known = knows(...[1, 2, 3, 4].map((number) => entryOf(madeJob(number), undefined, 1, 0)));
  const jobs = [madeJob(5), madeJob(4, { state: JobState.FAILED }), madeJob(2)];
  const next = withListing(known, { jobs, isWhole: false, askedAt: 2, nowMs: 0 }, idle);
  assert.deepEqual(numbersOf(next), [5, 4, 2, 1]);
  assert.equal(next.get(idOf(4))?.job.state, JobState.FAILED);
  const whole = withListing(known, { jobs, isWhole: true, askedAt: 2, nowMs: 0 }, idle);
  assert.deepEqual(numbersOf(whole), [5, 4, 2]);
});

test("a listing does not overwrite what was seen after it was asked for, what is watched, and what is deleted", () => {
  const done = (number: number) => madeJob(number, { state: JobState.SUCCEEDED });
  const known = knows(entryOf(done(1), undefined, 5, 0), entryOf(done(2), undefined, 1, 0));
  const next = withListing(
    known,
    { jobs: [madeJob(3), madeJob(2), madeJob(1)], isWhole: true, askedAt: 4, nowMs: 0 },
    { isWatched: (id) => id === idOf(2), isGone: (id) => id === idOf(3) },
  );
  assert.deepEqual(
    newestFirst(next).map(({ job }) => [job.id, job.state]),
    [
      [idOf(2), JobState.SUCCEEDED],
      [idOf(1), JobState.SUCCEEDED],
    ],
  );
  const created = withListing(
    knows(entryOf(madeJob(9), undefined, 5, 0)),
    { jobs: [], isWhole: true, askedAt: 4, nowMs: 0 },
    idle,
  );
  assert.deepEqual(numbersOf(created), [9], "a job that was created meanwhile stays");
});

test("a listing replaces older jobs when there may be others between", () => {
  const known = knows(...[1, 2].map((number) => entryOf(madeJob(number), undefined, 1, 0)));
  const next = withListing(known, { jobs: [madeJob(9), madeJob(8)], isWhole: false, askedAt: 2, nowMs: 0 }, idle);
  assert.deepEqual(numbersOf(next), [9, 8]);
});

test("jobs of one millisecond are not taken for deleted at the end of a page", () => {
  const createTime = timestampFromMs(firstMs);
  const known = knows(...[1, 2, 3].map((number) => entryOf(madeJob(number, { createTime }), undefined, 1, 0)));
  const next = withListing(known, { jobs: [madeJob(2, { createTime })], isWhole: false, askedAt: 2, nowMs: 0 }, idle);
  assert.deepEqual(numbersOf(next), [3, 2, 1]);
});

test("watched are the jobs that run, then those that are next", () => {
  const queued = (number: number, position: number | undefined) =>
    madeJob(number, position === undefined ? {} : { detail: { case: "queued", value: { position } } });
  const entries = [
    queued(5, undefined),
    queued(4, 0),
    queued(3, 1),
    madeJob(2, { state: JobState.RUNNING }),
    madeJob(1, { state: JobState.SUCCEEDED }),
  ].map((job) => entryOf(job, undefined, 1, 0));
  assert.deepEqual(idsToWatch(entries, 3), [2, 4, 3].map(idOf));
  assert.deepEqual(idsToWatch(entries, 9), [2, 4, 3, 5].map(idOf));
});

test("streams are few where each takes a connection", () => {
  const over = (nextHopProtocol: string) => maxStreams({ getEntriesByType: () => [{ nextHopProtocol }] });
  assert.deepEqual([over("http/1.1"), over("h2"), over("h3")], [1, 8, 8]);
  assert.equal(maxStreams({ getEntriesByType: () => [] }), 1);
});

test("ids are 128 bits and differ", () => {
  const ids = [newId(), newId()];
  assert.match(ids[0] ?? "", /^[0-9a-f]{32}$/);
  assert.notEqual(ids[0], ids[1]);
});

test("a job gives the form that asked for it", () => {
  const form = {
    ...emptyForm,
    prompt: "a red heart",
    negativePrompt: "blue",
    workerApp: "local/fine",
    width: "128",
    steps: "12",
    guidance: "4.1",
    seed: "7",
    scheduler: "dpmpp-2m",
    loras: "pixel:0.8,flat",
  };
  const value = create(GenerateRequestSchema, jobRequestOf(form, undefined));
  // As the wire has it.
  assert.equal(value.options?.delivery, Delivery.URL);
  assert.equal(value.options?.scheduler, Scheduler.DPMPP_2M);
  const asked = askOf(madeJob(1, { work: { case: "generate", value } }));
  assert.deepEqual(asked, { form, hasStart: false });
});

test("a job that starts from an image says so by its strength", () => {
  const value = create(GenerateRequestSchema, jobRequestOf({ ...emptyForm, prompt: "a" }, Uint8Array.of(1)));
  assert.equal(value.options?.strength, 0.3);
  const asked = askOf(madeJob(1, { work: { case: "generate", value } }));
  assert.deepEqual([asked.hasStart, asked.form.strength], [true, "0.3"]);
  const without = create(
    GenerateRequestSchema,
    jobRequestOf({ ...emptyForm, prompt: "a", strength: "0.8" }, undefined),
  );
  assert.equal(without.options?.strength, undefined);
});

test("an infer job gives its prompt and its app", () => {
  const work = { case: "infer", value: { workerApp: "local/fine", request: { prompt: "a kite" } } } as const;
  const { form } = askOf(madeJob(1, { work }));
  assert.deepEqual([form.prompt, form.workerApp], ["a kite", "local/fine"]);
});

test("violations of a job's request belong to the form's fields", () => {
  assert.equal(fieldFor("generate.options.width"), "width");
  assert.equal(fieldFor("generate.prompt"), "prompt");
  assert.equal(fieldFor("request_id"), undefined);
});

test("texts name the state, the error, the class and the attempt", () => {
  const text = (job: ReturnType<typeof madeJob>) => stateText(entryOf(job, undefined, 1, 0));
  assert.equal(text(madeJob(1)), "Waiting");
  const queued = { case: "queued", value: { position: 2, estimatedWaitMs: 12_000 } } as const;
  assert.equal(text(madeJob(1, { detail: queued })), "Waiting: 2 before you, begins in about 12 s");
  assert.equal(text(running(3)), "Denoising");
  const startTime = timestampFromMs(firstMs);
  const endTime = timestampFromMs(firstMs + 1530);
  assert.equal(text(madeJob(1, { state: JobState.SUCCEEDED, startTime, endTime })), "Done in 1.53 s");
  const failed = (code: Code) =>
    madeJob(1, { state: JobState.FAILED, detail: { case: "error", value: { code, message: "width: too large" } } });
  assert.equal(text(failed(Code.Internal)), "Failed");
  assert.equal(errorText(failed(Code.InvalidArgument)), "INVALID_ARGUMENT: width: too large");
  assert.equal(errorText(failed(Code.Canceled)), "CANCELLED: width: too large");
  assert.equal(errorText(madeJob(1)), "");
  assert.deepEqual(notesOf(madeJob(1, { priority: JobPriority.NORMAL, attempt: 1 })), []);
  assert.deepEqual(notesOf(madeJob(1, { priority: JobPriority.HIGH, attempt: 2 })), ["high priority", "attempt 2"]);
  const entries = [madeJob(1), running(2), madeJob(3, { state: JobState.CANCELLED })].map((job) =>
    entryOf(job, undefined, 1, 0),
  );
  assert.equal(countText(entries, false), "3 jobs, 1 running, 1 waiting");
  assert.equal(countText(entries.slice(2), true), "the newest 1");
});
