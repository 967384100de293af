import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { Webhook } from "standardwebhooks";
import { Delivery } from "../../../src/gen/throughline/v1/image_pb.js";
import { type Job, JobState } from "../../../src/gen/throughline/v1/job_pb.js";
import { publishNotice } from "../../../src/jobs/job-notices.js";
import { redriveWebhooks } from "../../../src/jobs/webhooks.js";
import { createHeldEngine } from "../../support/held-engine.js";
import { lastOf } from "../../support/job-mesh.js";
import type { SharedMesh } from "./shared-mesh.js";
import { startWebhookReceiver, webhookSecret } from "./webhook-receiver.js";

export function describeWebhooks(shared: SharedMesh): void {
  describe("the webhook of a job", () => {
    const { use } = shared;
    beforeEach(() => {
      shared.receiver.received.length = 0;
      shared.receiver.answer(200);
    });

    async function create(prompt: string, webhookUrl = shared.receiver.url): Promise<Job> {
      const work = { case: "generate", value: { prompt, options: { delivery: Delivery.INLINE } } } as const;
      const { job } = await shared.mesh.jobs.createJob({ work, webhookUrl });
      assert.ok(job);
      return job;
    }

    /** Makes the webhooks due that wait for their next try, and has the sender look for them. */
    async function skipDelay(): Promise<void> {
      await shared.mesh.database.sql.executeSql(
        "update throughline_queue.job set start_after = now() where name = 'webhook' and state = 'retry'",
      );
      await publishNotice(shared.mesh.database.sql, { id: "", app: "" });
    }

    /** Resolves when a query has a row. */
    async function untilRow(query: string): Promise<void> {
      while ((await shared.mesh.database.sql.executeSql(query)).rows.length === 0) {
        await new Promise((resolve) => setImmediate(resolve));
      }
    }

    /** Resolves when a try has failed, which is logged after its row has changed. */
    async function untilLogged(id: string): Promise<void> {
      while (notDelivered(id).length === 0) {
        await new Promise((resolve) => setImmediate(resolve));
      }
    }

    const notDelivered = (id: string): readonly string[] =>
      shared.mesh.lines.filter((line) => line.includes("webhook not delivered") && line.includes(id));

    it("a webhook to a host that is not listed any more is not sent", async () => {
      const unlisted = await startWebhookReceiver();
      try {
        const held = use(createHeldEngine(1).engine);
        assert.ok(held);
        const job = await create("waits");
        const sealed = Buffer.concat([Buffer.of(0), Buffer.from(unlisted.url)]);
        const { sql } = shared.mesh.database;
        await sql.executeSql("update throughline.job set webhook = $2 where id = $1", [job.id, sealed]);
        await shared.mesh.jobs.cancelJob({ id: job.id });
        await untilLogged(job.id);
        assert.deepEqual(unlisted.received, []);
        assert.ok(shared.mesh.lines.some((line) => line.includes(job.id) && line.includes("--webhook-hosts")));
      } finally {
        await unlisted.close();
        await shared.mesh.database.sql.executeSql("delete from throughline_queue.job where name = 'webhook'");
      }
    });

    it("a webhook is signed as Standard Webhooks, and has the job without prompt and bytes", async () => {
      const job = await create("a secret wish");
      await lastOf(shared.mesh, job);
      await shared.receiver.arrived(1);
      const [{ headers, body, url: path } = assert.fail()] = shared.receiver.received;
      assert.equal(path, "/done");
      assert.equal(headers["webhook-id"], job.id);
      const signed = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
      const seen = new Webhook(webhookSecret).verify(body, signed);
      assert.throws(() => new Webhook(webhookSecret).verify(body.replace("SUCCEEDED", "FAILED"), signed));
      assert.throws(() => new Webhook("whsec_c2VjcmV0IG9mIGFub3RoZXIgb25l").verify(body, signed));
      assert.deepEqual(seen, JSON.parse(body));
      const { id, state, work, generate, result } = JSON.parse(body);
      assert.deepEqual([id, state, work, generate], [job.id, "JOB_STATE_SUCCEEDED", undefined, undefined]);
      assert.ok(result.image.file_size > 0);
      assert.equal(result.image.data ?? "", "");
      assert.doesNotMatch(body, /secret|wish/);
      assert.equal(shared.receiver.received.length, 1);
    });

    it("a webhook that fails is sent again, with the same id", async () => {
      shared.receiver.answer(500, 200);
      const job = await create("again");
      await shared.receiver.arrived(1);
      await untilLogged(job.id);
      const [logged, ...more] = notDelivered(job.id);
      assert.deepEqual(more, []);
      const { cause, host, try: number, tries, nextTry, err } = JSON.parse(logged ?? "");
      assert.deepEqual(
        [cause, host, number, tries, err],
        ["the receiver answered 500", new URL(shared.receiver.url).host, 1, 10, undefined],
      );
      assert.ok(Date.parse(nextTry) > Date.now());
      assert.doesNotMatch(logged ?? "", /done|\.js:|\.ts:/, "neither a path nor a stack");
      await skipDelay();
      await shared.receiver.arrived(2);
      assert.deepEqual(
        new Set(shared.receiver.received.map(({ headers }) => headers["webhook-id"])),
        new Set([job.id]),
      );
      assert.equal(shared.receiver.received.length, 2);
    });

    it("a host that does not answer holds its own webhooks only, and a bounded number of them", async () => {
      const slow = shared.secondReceiver;
      const release = slow.hold();
      try {
        for (let made = 0; made < 10; made++) {
          await lastOf(shared.mesh, await create("slow", slow.url));
        }
        await slow.arrived(8);
        const { id } = await create("fast");
        await shared.receiver.arrived(1);
        assert.equal(shared.receiver.received[0]?.headers["webhook-id"], id);
        assert.deepEqual([slow.received.length, slow.waiting], [8, 8]);
      } finally {
        release();
      }
      await slow.arrived(10);
      assert.equal(new Set(slow.received.map(({ headers }) => headers["webhook-id"])).size, 10);
      await untilRow(
        "select 1 where not exists (select from throughline_queue.job where name = 'webhook' and state < 'completed')",
      );
    });

    it("a webhook follows no redirect, is dead after ten tries, and is sent again by a redrive", async () => {
      shared.receiver.answer(302);
      const job = await create("dead");
      for (let tries = 1; tries <= 9; tries++) {
        await shared.receiver.arrived(tries);
        await untilRow("select 1 from throughline_queue.job where name = 'webhook' and state = 'retry'");
        await skipDelay();
      }
      await shared.receiver.arrived(10);
      await untilRow("select 1 from throughline_queue.job where name = 'webhook-dead' and state = 'created'");
      assert.equal(shared.receiver.received.length, 10);
      assert.deepEqual(new Set(shared.receiver.received.map(({ url: path }) => path)), new Set(["/done"]));
      assert.ok(
        !shared.mesh.lines.some((line) => line.includes(shared.receiver.url)),
        "no log line has the receiver's URL",
      );

      shared.receiver.answer(200);
      assert.equal(await redriveWebhooks(shared.mesh.database), 1);
      assert.equal(notDelivered(job.id).length, 10);
      assert.match(notDelivered(job.id)[9] ?? "", /by its last try: `jobs redrive` sends it again/);
      await shared.receiver.arrived(11);
      assert.equal(shared.receiver.received[10]?.headers["webhook-id"], job.id);
    });

    it("a job that fails has a webhook with its code, and one that is cancelled too", async () => {
      const failed = await lastOf(shared.mesh, await create(" \t "));
      assert.equal(failed.state, JobState.FAILED);
      await shared.receiver.arrived(1);
      const { error } = JSON.parse(shared.receiver.received[0]?.body ?? "");
      assert.equal(error.code, 3);
      assert.deepEqual(error.details, []);

      const held = createHeldEngine(1);
      use(held.engine);
      const { id } = await create("cancelled");
      await held.reached;
      await shared.mesh.jobs.cancelJob({ id });
      await shared.receiver.arrived(2);
      assert.equal(JSON.parse(shared.receiver.received[1]?.body ?? "").state, "JOB_STATE_CANCELLED");
    });

    it("a webhook to a host that is not listed is rejected when the job is created", async () => {
      await assert.rejects(create("no", "https://evil.example/"), {
        code: 3,
        rawMessage: /webhook_url: .*--webhook-hosts/,
      });
    });
  });
}
