import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { deadWebhookQueue } from "../../../src/jobs/job-table.js";
import { createHeldEngine } from "../../support/held-engine.js";
import { lastOf } from "../../support/job-mesh.js";
import type { SharedMesh } from "./shared-mesh.js";

export function describeMetrics(shared: SharedMesh): void {
  describe("the metrics of the queue", () => {
    const read = async (): Promise<Readonly<Record<string, number>>> => {
      const points = await shared.mesh.metrics();
      return Object.fromEntries(
        points
          .filter(({ name }) => name.startsWith("throughline.jobs."))
          .map(({ name, unit, value }) => [`${name.slice("throughline.jobs.".length)} ${unit}`, Number(value)]),
      );
    };

    it("count what waits, what runs and what is dead, and give the age of the oldest that waits", async () => {
      const up = { "database.up 1": 1 };
      const idle = { ...up, "waiting {job}": 0, "running {job}": 0, "oldest s": 0, "webhooks.dead {webhook}": 0 };
      assert.deepEqual(await read(), idle);

      const held = createHeldEngine(1);
      shared.use(held.engine);
      const create = async (prompt: string) => {
        const { job } = await shared.mesh.jobs.createJob({ work: { case: "generate", value: { prompt } } });
        return job ?? assert.fail("no job");
      };
      const runs = await create("runs");
      await held.reached;
      const [oldest, newest] = [await create("oldest"), await create("newest")];
      const { sql, boss } = shared.mesh.database;
      await sql.executeSql("update throughline.job set create_time = now() - interval '90 seconds' where id = $1", [
        oldest.id,
      ]);
      await sql.executeSql("update throughline.job set create_time = now() - interval '1 hour' where id = $1", [
        runs.id,
      ]);
      await boss.send(deadWebhookQueue, { id: runs.id });

      const { "oldest s": ageSeconds = 0, ...counts } = await read();
      assert.deepEqual(counts, { ...up, "waiting {job}": 2, "running {job}": 1, "webhooks.dead {webhook}": 1 });
      assert.ok(ageSeconds >= 90 && ageSeconds < 3_600, `${ageSeconds}`);

      await boss.deleteAllJobs(deadWebhookQueue);
      held.release();
      await lastOf(shared.mesh, newest);
      assert.deepEqual(await read(), idle);
    });
  });
}
