import assert from "node:assert/strict";
import { test } from "node:test";
import { createJobMetrics } from "../../src/jobs/job-metrics.js";
import type { JobCounts } from "../../src/jobs/job-store.js";
import { testMeter } from "../support/telemetry.js";

test("a database that does not answer is reported as down, and as up once it answers again", async (t) => {
  const collected = testMeter(t);
  const counts: JobCounts = { waiting: 3, running: 0, oldestSeconds: 5, deadWebhooks: 0 };
  let away: Error | undefined;
  const errors: unknown[] = [];
  const store = { counts: () => (away === undefined ? Promise.resolve(counts) : Promise.reject(away)) };
  createJobMetrics(collected.meter, store, (error) => void errors.push(error));
  const up = async () => (await collected.read()).find(({ name }) => name === "throughline.jobs.database.up")?.value;
  assert.equal(await up(), 1);
  away = new Error("connection refused");
  assert.equal(await up(), 0);
  assert.deepEqual(errors, [away]);
  away = undefined;
  assert.equal(await up(), 1);
});
