import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import { after, before, beforeEach, it } from "node:test";
import { Webhook } from "standardwebhooks";
import { Delivery } from "../../src/gen/throughline/v1/image_pb.js";
import { type Job, JobState } from "../../src/gen/throughline/v1/job_pb.js";
import { notify } from "../../src/jobs/job-table.js";
import { redriveWebhooks } from "../../src/jobs/webhooks.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createHeldEngine } from "../support/held-engine.js";
import { createSwitchEngine, type JobMesh, lastOf, startJobMesh } from "../support/job-mesh.js";

interface Received {
  readonly url: string | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw9m4Yl4kyXno=";
const received: Received[] = [];
const arrivals: (() => void)[] = [];
/** Status of the next answers, the last for all others. */
let statuses: number[] = [200];
const receiver = createServer(async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) {
    chunks.push(chunk);
  }
  received.push({ url: request.url, headers: request.headers, body: Buffer.concat(chunks).toString() });
  const status = (statuses.length > 1 ? statuses.shift() : statuses[0]) ?? 200;
  response.writeHead(status, status === 302 ? { location: "/elsewhere" } : {}).end();
  for (const arrived of arrivals) {
    arrived();
  }
});

/** Resolves when so many webhooks have come. */
async function arrived(count: number): Promise<void> {
  while (received.length < count) {
    await new Promise<void>((resolve) => arrivals.push(resolve));
  }
}

const { engine, use } = createSwitchEngine();
let mesh: JobMesh;
let url: string;
before(async () => {
  receiver.listen(0, "127.0.0.1");
  await once(receiver, "listening");
  const address = receiver.address();
  assert.ok(typeof address === "object" && address !== null);
  const { port } = address;
  url = `http://127.0.0.1:${port}/done`;
  const policy = { hosts: [`127.0.0.1:${port}`, "localhost.invalid"], allowsLoopback: true };
  mesh = await startJobMesh({ engines: [engine], webhooks: { policy, secret } });
});
beforeEach(() => {
  use(createFakeEngine());
  received.length = 0;
  statuses = [200];
});
after(async () => {
  receiver.close();
  receiver.closeAllConnections();
  await mesh.stop();
});

async function create(prompt: string, webhookUrl = url): Promise<Job> {
  const work = { case: "generate", value: { prompt, options: { delivery: Delivery.INLINE } } } as const;
  const { job } = await mesh.jobs.createJob({ work, webhookUrl });
  assert.ok(job);
  return job;
}

/** Makes the webhooks due that wait for their next try, and has the sender look for them. */
async function skipDelay(): Promise<void> {
  await mesh.database.sql.executeSql(
    "update throughline_queue.job set start_after = now() where name = 'webhook' and state = 'retry'",
  );
  await notify(mesh.database.sql, { id: "", app: "" });
}

/** Resolves when a query has a row. */
async function untilRow(query: string): Promise<void> {
  while ((await mesh.database.sql.executeSql(query)).rows.length === 0) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

it("a webhook is signed as Standard Webhooks, and has the job without prompt and bytes", async () => {
  const job = await create("a secret wish");
  await lastOf(mesh, job);
  await arrived(1);
  const [{ headers, body, url: path } = assert.fail()] = received;
  assert.equal(path, "/done");
  assert.equal(headers["webhook-id"], job.id);
  const signed = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
  const seen = new Webhook(secret).verify(body, signed);
  assert.throws(() => new Webhook(secret).verify(body.replace("SUCCEEDED", "FAILED"), signed));
  assert.throws(() => new Webhook("whsec_c2VjcmV0IG9mIGFub3RoZXIgb25l").verify(body, signed));
  assert.deepEqual(seen, JSON.parse(body));
  const { id, state, work, generate, result } = JSON.parse(body);
  assert.deepEqual([id, state, work, generate], [job.id, "JOB_STATE_SUCCEEDED", undefined, undefined]);
  assert.ok(result.image.file_size > 0);
  assert.equal(result.image.data ?? "", "");
  assert.doesNotMatch(body, /secret|wish/);
  assert.equal(received.length, 1);
});

it("a webhook that fails is sent again, with the same id", async () => {
  statuses = [500, 200];
  const job = await create("again");
  await arrived(1);
  await untilRow("select 1 from throughline_queue.job where name = 'webhook' and state = 'retry'");
  await skipDelay();
  await arrived(2);
  assert.deepEqual(new Set(received.map(({ headers }) => headers["webhook-id"])), new Set([job.id]));
  assert.equal(received.length, 2);
});

it("a webhook follows no redirect, is dead after ten tries, and is sent again by a redrive", async () => {
  statuses = [302];
  const job = await create("dead");
  for (let tries = 1; tries <= 9; tries++) {
    await arrived(tries);
    await untilRow("select 1 from throughline_queue.job where name = 'webhook' and state = 'retry'");
    await skipDelay();
  }
  await arrived(10);
  await untilRow("select 1 from throughline_queue.job where name = 'webhook-dead' and state = 'created'");
  assert.equal(received.length, 10);
  assert.deepEqual(new Set(received.map(({ url: path }) => path)), new Set(["/done"]));
  assert.ok(!mesh.lines.some((line) => line.includes(url)), "no log line has the receiver's URL");

  statuses = [200];
  assert.equal(await redriveWebhooks(mesh.database), 1);
  await arrived(11);
  assert.equal(received[10]?.headers["webhook-id"], job.id);
});

it("a job that fails has a webhook with its code, and one that is cancelled too", async () => {
  const failed = await lastOf(mesh, await create(" \t "));
  assert.equal(failed.state, JobState.FAILED);
  await arrived(1);
  const { error } = JSON.parse(received[0]?.body ?? "");
  assert.equal(error.code, 3);
  assert.deepEqual(error.details, []);

  const held = createHeldEngine(1);
  use(held.engine);
  const { id } = await create("cancelled");
  await held.reached;
  await mesh.jobs.cancelJob({ id });
  await arrived(2);
  assert.equal(JSON.parse(received[1]?.body ?? "").state, "JOB_STATE_CANCELLED");
});

it("a webhook to a host that is not listed is rejected when the job is created", async () => {
  await assert.rejects(create("no", "https://evil.example/"), {
    code: 3,
    rawMessage: /webhook_url: .*--webhook-hosts/,
  });
});
