import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Code, createClient, createRouterTransport, type Interceptor } from "@connectrpc/connect";
import { createNoopMeter, trace } from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { pino } from "pino";
import { JobService } from "../../src/gen/throughline/v1/job_pb.js";
import { createJobFolder } from "../../src/jobs/job-files.js";
import { createJobs, type JobsOptions } from "../../src/jobs/jobs.js";
import { createPayloadCipher } from "../../src/jobs/payload-cipher.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";

const unused = () => assert.fail("not used here");

/** Client of a pipeline whose folder has no database yet. */
async function connectNew(
  openDatabase: JobsOptions["openDatabase"],
  { listsAnonymous = true, interceptors = [] }: { listsAnonymous?: boolean; interceptors?: Interceptor[] } = {},
) {
  const jobs = createJobs({
    openDatabase,
    isNew: true,
    folder: await createJobFolder(await temporaryFolder()),
    cipher: createPayloadCipher([]),
    pipeline: { resolveApp: unused, generate: unused, infer: unused, workersOf: unused, onServing: unused },
    listsAnonymous,
    telemetry: {
      tracer: trace.getTracer("test"),
      propagator: new W3CTraceContextPropagator(),
      meter: createNoopMeter(),
    },
    logger: pino({ level: "silent" }),
  });
  await jobs.start();
  return createClient(JobService, createRouterTransport(jobs.routes, { router: { interceptors } }));
}

describe("a folder without a database", () => {
  const id = "0".repeat(32);

  it("has no jobs, and no call about jobs creates the database", async () => {
    const client = await connectNew(unused);
    assert.deepEqual((await client.listJobs({})).jobs, []);
    assert.deepEqual((await client.listJobs({ pageSize: 5, workerApp: "acme/worker" })).nextPageToken, "");
    const none = { code: Code.NotFound, rawMessage: /^no such job of this caller/ };
    await assert.rejects(client.getJob({ id }), none);
    await assert.rejects(client.cancelJob({ id }), none);
    await assert.rejects(client.deleteJob({ id }), none);
    await assert.rejects(async () => {
      for await (const _ of client.watchJob({ id })) {
        assert.fail("there is no job");
      }
    }, none);
  });

  it("rejects the lists that a database would reject", async () => {
    const client = await connectNew(unused);
    await assert.rejects(client.listJobs({ pageToken: "x" }), { code: Code.InvalidArgument, rawMessage: /page_token/ });
    await assert.rejects((await connectNew(unused, { listsAnonymous: false })).listJobs({}), {
      code: Code.PermissionDenied,
    });
  });

  it("is opened by the first CreateJob, for which other calls then wait", async () => {
    let opened = 0;
    let fail = (_reason: Error): void => {};
    let begin = (): void => {};
    const begun = new Promise<void>((resolve) => {
      begin = resolve;
    });
    const open = () => {
      opened++;
      begin();
      return new Promise<never>((_resolve, reject) => {
        fail = reject;
      });
    };
    let arrive = (): void => {};
    const arrived = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    const reportList: Interceptor = (next) => (request) => {
      const answer = next(request);
      if (request.method === JobService.method.listJobs) {
        arrive();
      }
      return answer;
    };
    const client = await connectNew(open, { interceptors: [reportList] });
    const created = client.createJob({ work: { case: "generate", value: { prompt: "a cat" } } });
    await begun;
    const listed = client.listJobs({});
    await arrived;
    fail(new Error("no space is left"));
    const message = "the jobs' database cannot be opened; the server's log has the reason";
    await assert.rejects(created, { code: Code.Unavailable, rawMessage: message });
    await assert.rejects(listed, { code: Code.Unavailable, rawMessage: message });
    assert.equal(opened, 1);
    assert.deepEqual((await client.listJobs({})).jobs, [], "nothing was stored");
  });
});
