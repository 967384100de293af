import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { retryDelayMsOf } from "../../src/mesh/errors/errors.js";
import { createHeldEngine } from "../support/held-engine.js";
import { startJobMesh } from "../support/job-mesh.js";
import type { Postgres } from "../support/postgres.js";

/** @param server the running server, once the tests have begun. */
export function describeLimits(server: () => Postgres): void {
  test("the job after 10,000 waiting ones is rejected with RESOURCE_EXHAUSTED and a delay, until one has left", async () => {
    const held = createHeldEngine(2);
    const mesh = await startJobMesh({ source: await server().createDatabase(), engines: [held.engine] });
    const create = (prompt: string) => mesh.jobs.createJob({ work: { case: "generate", value: { prompt } } });
    const { sql } = mesh.database;
    try {
      await create("runs");
      await held.reached;
      // Of an app without workers, and of owners who stay below their own bound.
      await sql.executeSql(
        `insert into throughline.job (id, owner, caller, app, state, class, rank, tag, cost_seconds, run_timeout_seconds, ttl_seconds, work)
         select gen_random_uuid(), 'owner ' || number % 20, 'caller', 'acme/elsewhere', 1, 0, -number, number, 1, 60, 60, '\\x00'
         from generate_series(1, 9999) as number`,
      );
      await create("the 10,000th");
      await assert.rejects(create("the 10,001st"), (error: unknown) => {
        assert.ok(error instanceof ConnectError);
        assert.equal(error.code, Code.ResourceExhausted);
        assert.equal(error.rawMessage, "10000 jobs wait, which is the limit");
        assert.ok((retryDelayMsOf(error) ?? 0) > 0);
        return true;
      });
      await sql.executeSql(
        "delete from throughline.job where id = (select id from throughline.job where app = 'acme/elsewhere' limit 1)",
      );
      await create("fits again");
    } finally {
      held.release();
      await mesh.stop();
    }
  });
}
