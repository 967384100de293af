import assert from "node:assert/strict";
import { test } from "node:test";
import { JobState } from "../../src/gen/throughline/v1/job_pb.js";
import type { JobStore } from "../../src/jobs/job-store.js";
import { createJobWatch } from "../../src/jobs/job-watch.js";
import { storedJob } from "../support/stored-job.js";

test("watcher of a waiting job learns when its app's last worker goes and the next one comes", async (t) => {
  const job = { ...storedJob(), state: JobState.QUEUED };
  const place = { ahead: 3, secondsAhead: 30 };
  const unused = () => assert.fail("not used here");
  const store: JobStore = {
    read: async () => job,
    survey: async (ids) => new Map(ids.map((id) => [id, { state: job.state, attempt: job.attempt, place }])),
    create: unused,
    findRequest: unused,
    list: unused,
    cancel: unused,
    delete: unused,
    place: unused,
    positions: unused,
    databaseId: unused,
    existing: unused,
    payloadHeads: unused,
    counts: unused,
    unfinished: unused,
  };
  // The watch's own timer keeps no process alive.
  const alive = setInterval(() => {}, 1_000);
  t.after(() => clearInterval(alive));
  let serves = true;
  const watch = createJobWatch(store, unused, async () => serves);
  t.after(() => watch.close());
  const snapshots = watch.watch(job.id, () => {}, new AbortController().signal);
  const next = async () => (await snapshots.next()).value?.hasWorker;
  assert.equal(await next(), undefined);
  assert.equal(await next(), true);
  serves = false;
  assert.equal(await next(), false);
  serves = true;
  assert.equal(await next(), true);
  await snapshots.return(undefined);
});
