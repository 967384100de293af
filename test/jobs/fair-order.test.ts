import assert from "node:assert/strict";
import { it } from "node:test";
import { JobPriority } from "../../src/gen/throughline/v1/job_pb.js";
import { rankOf } from "../../src/jobs/fair-order.js";

const classes = [JobPriority.LOW, JobPriority.NORMAL, JobPriority.HIGH] as const;

it("an earlier tag has a higher rank, down to a tenth of a second", () => {
  for (const priority of classes) {
    for (const tag of [0, 0.1, 3, 10_000, 20_000_000]) {
      assert.ok(rankOf(priority, tag) > rankOf(priority, tag + 0.1), `${priority} ${tag}`);
    }
  }
});

it("every job of a higher class is before every job of a lower one", () => {
  for (const [index, higher] of classes.entries()) {
    for (const lower of classes.slice(0, index)) {
      assert.ok(rankOf(higher, 1e12) > rankOf(lower, 0), `${higher} ${lower}`);
    }
  }
});

it("a rank fits the queue's integer, whatever the tag", () => {
  for (const priority of classes) {
    for (const tag of [0, 1e6, 1e15]) {
      const rank = rankOf(priority, tag);
      assert.ok(Number.isInteger(rank) && Math.abs(rank) < 2 ** 31, `${rank}`);
    }
  }
});

it("a job without a class is a normal one", () => {
  assert.equal(rankOf(JobPriority.UNSPECIFIED, 7), rankOf(JobPriority.NORMAL, 7));
});
