import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { createJobPolls, type JobsClient } from "../../src/fronts/fal/job-polls.js";
import { type Job, JobSchema, JobService, JobState } from "../../src/gen/throughline/v1/job_pb.js";

const id = "0123456789abcdef0123456789abcdef";
const jobOf = (state: JobState, position = 0): Job =>
  create(JobSchema, { id, state, detail: { case: "queued", value: { position } } });

/** A server of one job, whose state and whose updates a test sets. */
function serveJob(first: Job) {
  let job: Job | undefined = first;
  let reads = 0;
  const watches: AbortSignal[] = [];
  let wake: () => void = () => {};
  let update: Job | Error | undefined;
  const transport = createRouterTransport(({ service }) =>
    service(JobService, {
      getJob() {
        reads++;
        if (job === undefined) {
          throw new ConnectError("no such job", Code.NotFound);
        }
        return { job };
      },
      async *watchJob(_request, { signal }) {
        watches.push(signal);
        signal.addEventListener("abort", () => wake());
        while (!signal.aborted) {
          const next = update;
          update = undefined;
          if (next instanceof Error) {
            throw next;
          }
          if (next === undefined) {
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
          } else {
            yield { job: next };
          }
        }
      },
    }),
  );
  const client = createClient(JobService, transport);
  return {
    client: (): JobsClient => client,
    watches,
    get reads() {
      return reads;
    },
    /** Changes the stored job without an update. */
    store(changed: Job | undefined) {
      job = changed;
    },
    send(sent: Job | Error) {
      update = sent;
      wake();
    },
  };
}

const turns = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Waits in turns of the event loop, and fails by the test's timeout. */
async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) {
    await turns();
  }
}

/** The clock and the timers of the cache; returns what lets milliseconds pass. */
function mockClock(t: TestContext): (ms: number) => void {
  let now = 1_000;
  t.mock.method(performance, "now", () => now);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  return (ms) => {
    now += ms;
    t.mock.timers.tick(ms);
  };
}

suite("polls of jobs", { timeout: 30_000 }, () => {
  test("polls after the first one read memory, and see what the watched job becomes", async () => {
    const server = serveJob(jobOf(JobState.QUEUED, 3));
    const polls = createJobPolls();
    const read = () => polls.read("anna", id, server.client);
    assert.equal((await read()).position, 3);
    await until(() => server.watches.length === 1);
    server.send(jobOf(JobState.QUEUED, 1));
    await until(async () => (await read()).position === 1);
    assert.deepEqual([server.reads, server.watches.length], [1, 1]);
    polls.forget("anna", id);
  });

  test("polls at the same time share one read", async () => {
    const server = serveJob(jobOf(JobState.SUCCEEDED));
    const polls = createJobPolls();
    const states = await Promise.all(Array.from({ length: 20 }, () => polls.read("anna", id, server.client)));
    assert.deepEqual(new Set(states.map(({ state }) => state)), new Set([JobState.SUCCEEDED]));
    assert.equal(server.reads, 1);
  });

  test("each caller has a state of its own", async () => {
    const server = serveJob(jobOf(JobState.SUCCEEDED));
    const polls = createJobPolls();
    await polls.read("anna", id, server.client);
    server.store(undefined);
    await assert.rejects(polls.read("ben", id, server.client), { code: Code.NotFound });
    assert.equal((await polls.read("anna", id, server.client)).state, JobState.SUCCEEDED);
  });

  test("a final job is not watched, and read again once its time is over", async (t) => {
    const pass = mockClock(t);
    const server = serveJob(jobOf(JobState.SUCCEEDED));
    const polls = createJobPolls();
    await polls.read("anna", id, server.client);
    await turns();
    pass(1_900);
    await polls.read("anna", id, server.client);
    assert.deepEqual([server.reads, server.watches.length], [1, 0]);
    pass(200);
    await polls.read("anna", id, server.client);
    assert.equal(server.reads, 2);
  });

  test("polls do not extend the time of a job that has become final", async (t) => {
    const pass = mockClock(t);
    const server = serveJob(jobOf(JobState.RUNNING));
    const polls = createJobPolls();
    const read = () => polls.read("anna", id, server.client);
    await read();
    await until(() => server.watches.length === 1);
    server.send(jobOf(JobState.SUCCEEDED));
    await until(async () => (await read()).state === JobState.SUCCEEDED);
    for (let count = 0; count < 3; count++) {
      pass(900);
      await read();
    }
    assert.equal(server.reads, 2);
  });

  test("a forgotten job is no longer watched, and is read anew", async () => {
    const server = serveJob(jobOf(JobState.RUNNING));
    const polls = createJobPolls();
    await polls.read("anna", id, server.client);
    await until(() => server.watches.length === 1);
    server.store(jobOf(JobState.CANCELLED));
    polls.forget("anna", id);
    assert.equal((await polls.read("anna", id, server.client)).state, JobState.CANCELLED);
    await until(() => server.watches[0]?.aborted === true);
  });

  test("after the end of a watch by an error, the next poll reports its reason", async () => {
    const server = serveJob(jobOf(JobState.RUNNING));
    const polls = createJobPolls();
    await polls.read("anna", id, server.client);
    await until(() => server.watches.length === 1);
    server.store(undefined);
    server.send(new ConnectError("deleted", Code.NotFound));
    await until(() =>
      polls.read("anna", id, server.client).then(
        () => false,
        ({ code }: ConnectError) => code === Code.NotFound,
      ),
    );
  });

  test("a failed read is not kept", async () => {
    const server = serveJob(jobOf(JobState.RUNNING));
    const polls = createJobPolls();
    server.store(undefined);
    await assert.rejects(polls.read("anna", id, server.client), { code: Code.NotFound });
    server.store(jobOf(JobState.SUCCEEDED));
    assert.equal((await polls.read("anna", id, server.client)).state, JobState.SUCCEEDED);
  });
});
