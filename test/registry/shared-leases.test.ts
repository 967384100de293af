import assert from "node:assert/strict";
import { after, before, suite, type TestContext, test } from "node:test";
import { pino } from "pino";
import { type JobDatabase, openJobDatabase } from "../../src/jobs/job-database.js";
import { createLeaseTable, type LeaseDatabase } from "../../src/registry/lease-table.js";
import { createLeases, type Lease, type Leases } from "../../src/registry/leases.js";
import { shareLeases } from "../../src/registry/shared-leases.js";
import { createTestDatabase } from "../support/job-database.js";

const lease = (port: number, version = "1"): Lease => ({ appId: "acme/worker", host: "10.0.0.7", port, version });

/** PGlite has PostgreSQL's SQL and notifications; test:postgres has the server. */
suite("leases that pipelines share", () => {
  let database: JobDatabase;
  before(async () => {
    database = await openJobDatabase({ source: await createTestDatabase(), onError: () => {} });
  });
  after(() => database?.close());

  /** A database that a test takes away, beside the real one. */
  const switchable = () => {
    let isAway = false;
    const guarded: LeaseDatabase = {
      sql: {
        executeSql: (text, values) =>
          isAway ? Promise.reject(new Error("the server is away")) : database.sql.executeSql(text, values),
      },
      transaction: database.transaction,
      listen: database.listen,
    };
    return {
      guarded,
      setAway(next: boolean) {
        isAway = next;
      },
    };
  };

  /** The leases of a pipeline that shares them. */
  async function startPipeline(t: TestContext, options: { leaseMs?: number; on?: LeaseDatabase } = {}) {
    const { leaseMs = 3_000, on = database } = options;
    const lines: string[] = [];
    const leases = createLeases({ leaseMs });
    const logger = pino({ level: "info" }, { write: (line) => void lines.push(line) });
    const sharing = await shareLeases({ leases, database: on, logger, retryMs: 20 });
    t.after(async () => {
      await sharing.close();
      leases.close();
    });
    return { leases, lines, close: sharing.close };
  }

  const hold = (leases: Leases, each: Lease) => leases.register(each, { countKey: "a", onExpired() {} });
  const portsOf = (leases: Leases) =>
    leases
      .replicasOf("acme/worker")
      .current.map(({ port }) => port)
      .sort();
  /** Resolves when a pipeline knows these ports. */
  const untilPorts = async (leases: Leases, ...ports: readonly number[]): Promise<void> => {
    while (portsOf(leases).join() !== ports.join()) {
      await new Promise<void>((resolve) => {
        const forget = leases.replicasOf("acme/worker").onChange(() => {
          forget();
          resolve();
        });
      });
    }
  };
  const clean = () => database.sql.executeSql("delete from throughline.lease");

  test("lease of one pipeline is known to the others, to one that starts later too, and goes when it is ended", async (t) => {
    const [one, other] = [await startPipeline(t), await startPipeline(t)];
    const held = hold(one.leases, lease(1));
    await untilPorts(other.leases, 1);
    const late = await startPipeline(t);
    assert.deepEqual(portsOf(late.leases), [1]);
    assert.deepEqual(late.leases.appIds, ["acme/worker"]);
    held.renew("2");
    while (other.leases.replicasOf("acme/worker").current[0]?.version !== "2") {
      await new Promise(setImmediate);
    }
    held.end();
    await untilPorts(other.leases);
    // Its app is still known, also to a pipeline that never knew the lease.
    assert.deepEqual((await startPipeline(t)).leases.appIds, ["acme/worker"]);
    await clean();
  });

  test("worker at two pipelines stays known when one of them ends its lease", async (t) => {
    const [one, two, three] = [await startPipeline(t), await startPipeline(t), await startPipeline(t)];
    const held = hold(one.leases, lease(1));
    hold(two.leases, lease(1));
    hold(two.leases, lease(2));
    await untilPorts(three.leases, 1, 2);
    held.end();
    hold(one.leases, lease(3));
    await untilPorts(three.leases, 1, 2, 3);
    await clean();
  });

  test("lease of a pipeline that is gone ends by the database's clock", async (t) => {
    const [one, other] = [await startPipeline(t, { leaseMs: 600 }), await startPipeline(t, { leaseMs: 600 })];
    hold(one.leases, lease(1));
    await untilPorts(other.leases, 1);
    await one.close();
    await untilPorts(other.leases);
    await clean();
  });

  test("known workers stay while the database is away and while their pipelines return, and nothing is lost", async (t) => {
    const { guarded, setAway } = switchable();
    const leaseMs = 600;
    const one = await startPipeline(t, { leaseMs, on: guarded });
    const other = await startPipeline(t, { leaseMs, on: guarded });
    const held = hold(one.leases, lease(1));
    await untilPorts(other.leases, 1);
    setAway(true);
    const added = hold(one.leases, lease(2));
    const renewal = setInterval(() => {
      held.renew("1");
      added.renew("1");
    }, 50);
    t.after(() => clearInterval(renewal));
    // By the database's clock, the lease is over meanwhile.
    while (
      Number(
        (
          await database.sql.executeSql(
            "select count(*)::int as count from throughline.lease where expire_time > now()",
          )
        ).rows[0]?.count,
      ) > 0
    ) {
      assert.deepEqual(portsOf(other.leases), [1]);
      // The embedded database gives no other callback a turn.
      await new Promise(setImmediate);
    }
    assert.deepEqual(portsOf(other.leases), [1]);
    setAway(false);
    await untilPorts(other.leases, 1, 2);
    for (const { lines } of [one, other]) {
      const counted = (message: string) => lines.filter((line) => line.includes(message)).length;
      while (counted("the registry's database answers again") === 0) {
        await new Promise(setImmediate);
      }
      assert.equal(counted("the registry's database does not answer"), 1);
      assert.equal(counted("the registry's database answers again"), 1);
    }
    added.end();
    await untilPorts(other.leases, 1);
    await clean();
  });

  test("end of a lease while the database is away is written when it is back", async (t) => {
    const { guarded, setAway } = switchable();
    const one = await startPipeline(t, { on: guarded });
    const other = await startPipeline(t);
    const held = hold(one.leases, lease(1));
    await untilPorts(other.leases, 1);
    setAway(true);
    held.end();
    await new Promise(setImmediate);
    assert.deepEqual(portsOf(other.leases), [1]);
    setAway(false);
    await untilPorts(other.leases);
    await clean();
  });

  test("many leases are written and read as they are, and rows that are none are left out", async (t) => {
    const [one, other] = [await startPipeline(t), await startPipeline(t)];
    await database.sql.executeSql(
      `insert into throughline.lease (app, host, port, pipeline, version, expire_time) values
       ('acme/worker', 'worker.internal', 9, 'x', '', now() + interval '1 minute'),
       ('acme/worker', '10.0.0.7', 0, 'x', '', now() + interval '1 minute'),
       ('no app', '10.0.0.7', 9, 'x', '', now() + interval '1 minute')`,
    );
    const ports = Array.from({ length: 500 }, (_, at) => at + 1);
    for (const port of ports) {
      hold(one.leases, lease(port));
    }
    await untilPorts(other.leases, ...[...ports].sort());
    assert.deepEqual(other.leases.appIds, ["acme/worker"]);
    await clean();
  });

  test("table is created once by pipelines that start together", async () => {
    await database.sql.executeSql("drop table throughline.lease");
    await Promise.all([1, 2, 3].map(() => createLeaseTable(database)));
    await clean();
  });
});
