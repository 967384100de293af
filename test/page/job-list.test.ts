import assert from "node:assert/strict";
import { once } from "node:events";
import test, { type TestContext } from "node:test";
import { Code, ConnectError, createClient, createRouterTransport, type ServiceImpl } from "@connectrpc/connect";
import { JobService, JobState } from "../../src/gen/throughline/v1/job_pb.js";
import { createJobList, type JobList } from "../../src/page/jobs/job-list.js";
import { createSubmission } from "../../src/page/jobs/submission.js";
import { emptyForm } from "../../src/page/request/request-form.js";
import { idOf, madeJob } from "./support/made-jobs.js";
import { when } from "./support/when.js";

type Service = Partial<ServiceImpl<typeof JobService>>;
const clientOf = (service: Service) =>
  createClient(
    JobService,
    createRouterTransport((router) => router.service(JobService, service)),
  );

function listOver(t: TestContext, service: Service, onChange = (_: string) => {}): JobList {
  const list = createJobList({
    client: clientOf(service),
    maxWatched: 1,
    now: () => 0,
    random: () => 0.5,
    onChange: ({ job }) => onChange(`${Number.parseInt(job.id, 16)} ${JobState[job.state]}`),
  });
  t.after(() => list.setSeen(false));
  return list;
}
const statesOf = (list: JobList) =>
  list.entries.value.map(({ job }) => `${Number.parseInt(job.id, 16)} ${JobState[job.state]}`);
const until = (list: JobList, ...states: string[]) =>
  when(list.entries, () => JSON.stringify(statesOf(list)) === JSON.stringify(states));
const turnsUntil = async (condition: () => boolean) => {
  while (!condition()) {
    await new Promise(setImmediate);
  }
};
// biome-ignore lint/correctness/useYield: it has no news until it is ended
async function* still(_: unknown, { signal }: { readonly signal: AbortSignal }) {
  await once(signal, "abort");
}
const done = (number: number) => madeJob(number, { state: JobState.SUCCEEDED });
const runs = (number: number) => madeJob(number, { state: JobState.RUNNING });

test("nothing is asked for before the list is seen, and nothing after", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let lists = 0;
  let watching = 0;
  const list = listOver(t, {
    listJobs: () => ({ jobs: [madeJob(++lists)] }),
    async *watchJob(request, { signal }) {
      watching++;
      yield { job: madeJob(1) };
      yield* still(request, { signal });
      watching--;
    },
  });
  assert.deepEqual([list.state.value.kind, lists], ["idle", 0]);
  list.setSeen(true);
  assert.equal(list.state.value.kind, "loading");
  await when(list.state, ({ kind }) => kind === "ready");
  await turnsUntil(() => watching === 1);
  list.setSeen(false);
  await turnsUntil(() => watching === 0);
  t.mock.timers.tick(60_000);
  assert.equal(lists, 1);
  list.setSeen(true);
  await until(list, "2 QUEUED");
});

test("the job that runs is watched to its end, then the next one; the others come from the list", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const watched: string[] = [];
  const changes: string[] = [];
  let finish = () => {};
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  let listed = [madeJob(3), madeJob(2, { detail: { case: "queued", value: { position: 0 } } }), runs(1)];
  const list = listOver(
    t,
    {
      listJobs: () => ({ jobs: listed }),
      async *watchJob({ id }, { signal }) {
        watched.push(id);
        if (id === idOf(1)) {
          yield { job: runs(1) };
          await finished;
          yield { job: done(1) };
          return;
        }
        yield* still(undefined, { signal });
      },
    },
    (change) => changes.push(change),
  );
  list.setSeen(true);
  await until(list, "3 QUEUED", "2 QUEUED", "1 RUNNING");
  finish();
  await until(list, "3 QUEUED", "2 QUEUED", "1 SUCCEEDED");
  await turnsUntil(() => watched.length === 2);
  assert.deepEqual(watched, [idOf(1), idOf(2)]);
  listed = [madeJob(4), madeJob(3, { state: JobState.CANCELLED }), madeJob(2), done(1)];
  t.mock.timers.tick(3_000);
  await until(list, "4 QUEUED", "3 CANCELLED", "2 QUEUED", "1 SUCCEEDED");
  assert.deepEqual(changes, ["1 SUCCEEDED", "3 CANCELLED"]);
});

test("a lost watch begins again with the whole state, and a deleted job leaves the list", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let watches = 0;
  const list = listOver(t, {
    listJobs: () => ({ jobs: [madeJob(1)] }),
    async *watchJob() {
      watches++;
      if (watches === 1) {
        yield { job: runs(1) };
        throw new ConnectError("the pipeline is shutting down", Code.Unavailable);
      }
      throw new ConnectError("no such job", Code.NotFound);
    },
  });
  list.setSeen(true);
  await until(list, "1 RUNNING");
  const gone = when(list.entries, (entries) => entries.length === 0);
  while (watches < 2) {
    t.mock.timers.tick(1_000);
    await new Promise(setImmediate);
  }
  await gone;
});

test("older jobs are loaded by pages, and a look reaches as far as the oldest that can change", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const asked: string[] = [];
  let oldest = runs(1);
  const pages = () =>
    new Map([
      ["", { jobs: [done(6), done(5)], nextPageToken: "b" }],
      ["b", { jobs: [done(4), done(3)], nextPageToken: "c" }],
      ["c", { jobs: [done(2), oldest] }],
    ]);
  const list = listOver(t, {
    listJobs({ pageToken, pageSize }) {
      asked.push(`${pageSize} ${pageToken}`);
      return pages().get(pageToken) ?? {};
    },
    watchJob: still,
  });
  list.setSeen(true);
  await when(list.state, ({ kind }) => kind === "ready");
  assert.deepEqual([list.entries.value.length, list.hasMore.value], [2, true]);
  await list.loadMore();
  await list.loadMore();
  assert.deepEqual([list.entries.value.length, list.hasMore.value], [6, false]);
  assert.deepEqual(asked.splice(0), ["100 ", "100 b", "100 c"]);
  oldest = done(1);
  // All jobs of the first page had ended at the last look.
  t.mock.timers.tick(15_000);
  await until(list, ...[6, 5, 4, 3, 2, 1].map((number) => `${number} SUCCEEDED`));
  assert.deepEqual(asked, ["100 ", "100 b", "100 c"]);
  assert.equal(list.hasMore.value, false);
});

test("an unknown service and a permission are not asked for again, a failure is, and what is known stays", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let lists = 0;
  let code = Code.Unavailable;
  const list = listOver(t, {
    listJobs() {
      if (++lists === 2) {
        return { jobs: [done(1)] };
      }
      throw new ConnectError("not now", code);
    },
  });
  const failed = () => when(list.state, ({ kind }) => kind === "failed");
  list.setSeen(true);
  await failed();
  t.mock.timers.tick(1_000);
  await until(list, "1 SUCCEEDED");
  code = Code.PermissionDenied;
  await when(list.state, ({ kind }) => kind === "ready");
  t.mock.timers.tick(15_000);
  await failed();
  assert.deepEqual([lists, statesOf(list)], [3, ["1 SUCCEEDED"]]);
  t.mock.timers.tick(600_000);
  list.retry();
  await turnsUntil(() => lists === 4);
  assert.equal(lists, 4);
});

test("a retry of a submission that failed has its request id; the next submission has another", async () => {
  const ids: string[] = [];
  let made = 0;
  const submission = createSubmission({
    client: clientOf({
      createJob({ requestId, priority }) {
        ids.push(`${requestId} ${priority}`);
        if (ids.length === 1) {
          throw new ConnectError("lost", Code.Unavailable);
        }
        return { job: madeJob(ids.length) };
      },
    }),
    newId: () => `id-${++made}`,
    onJob: () => {},
  });
  const form = { ...emptyForm, prompt: "a red heart" };
  const submit = (prompt: string) => submission.submit({ form: { ...form, prompt }, start: undefined });
  await submit("a red heart");
  assert.equal(submission.state.value.kind, "failed");
  await submit("a red heart");
  assert.equal(submission.state.value.kind, "sent");
  await submit("a red heart");
  assert.deepEqual(ids, ["id-1 2", "id-1 2", "id-2 2"]);
});

test("another request than the one that failed has a request id of its own", async () => {
  const ids: string[] = [];
  const submission = createSubmission({
    client: clientOf({
      createJob({ requestId }) {
        ids.push(requestId);
        throw new ConnectError("lost", Code.Unavailable);
      },
    }),
    newId: () => `id-${ids.length}`,
    onJob: () => {},
  });
  const submit = (prompt: string) => submission.submit({ form: { ...emptyForm, prompt }, start: undefined });
  await submit("a red heart");
  await submit("a kite");
  assert.deepEqual(ids, ["id-0", "id-1"]);
});

test("a second click while a job is being submitted submits none", async () => {
  let calls = 0;
  const submission = createSubmission({
    client: clientOf({ createJob: () => ({ job: madeJob(++calls) }) }),
    newId: () => "id",
    onJob: () => {},
  });
  const asked = { form: { ...emptyForm, prompt: "a red heart" }, start: undefined };
  await Promise.all([submission.submit(asked), submission.submit(asked)]);
  assert.equal(calls, 1);
});
