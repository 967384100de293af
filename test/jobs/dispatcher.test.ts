import assert from "node:assert/strict";
import { it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { trace } from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { pino } from "pino";
import { GenerateRequestSchema } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { createDispatcher, type DispatcherOptions } from "../../src/jobs/dispatcher.js";
import { createJobPayloads } from "../../src/jobs/job-payloads.js";
import type { ClaimedJob, JobQueue } from "../../src/jobs/job-queue.js";
import { createPayloadCipher } from "../../src/jobs/payload-cipher.js";
import { storedJob } from "../support/stored-job.js";

const unused = () => assert.fail("not used here");
const payloads = createJobPayloads(createPayloadCipher([]));

it("a job that is claimed while the dispatcher closes is given back before it has closed", async () => {
  const job = storedJob();
  const work = payloads.sealWork(job.id, { case: "generate", value: create(GenerateRequestSchema, { prompt: "x" }) });
  let claimed = (_job: ClaimedJob) => {};
  let asked = () => {};
  const claims = new Promise<void>((resolve) => {
    asked = resolve;
  });
  const givenBack: string[] = [];
  const queue: JobQueue = {
    claim: () =>
      new Promise((resolve) => {
        claimed = resolve;
        asked();
      }),
    giveBack: async (_app, { id }) => {
      givenBack.push(id);
      return true;
    },
    waitingApps: async () => [job.app],
    keep: async () => true,
    noteAttempt: async () => {},
    reportProgress: async () => {},
    settle: unused,
    failOverdue: unused,
    requeueAbandoned: unused,
    deleteExpired: unused,
    has: unused,
  };
  const aborted = async (_request: unknown, { signal }: { readonly signal: AbortSignal }) => {
    signal.throwIfAborted();
    return assert.fail("runs although the dispatcher is closed");
  };
  const options: DispatcherOptions = {
    queue,
    payloads,
    files: { open: unused, get: unused, delete: unused, unchangedSince: unused, urlOf: unused },
    pipeline: {
      resolveApp: unused,
      generate: aborted,
      infer: unused,
      workersOf: async () => ({ serving: 1, serviceMs: undefined }),
      onServing: () => {},
    },
    tracer: trace.getTracer("test"),
    propagator: new W3CTraceContextPropagator(),
    jobTrace: "parent",
    onProgress: () => {},
    logger: pino({ level: "silent" }),
  };
  const dispatcher = createDispatcher(options);
  dispatcher.start();
  await claims;
  const closing = dispatcher.close();
  claimed({ claim: { id: job.id, retryCount: 0 }, job: { ...job, work }, moreWait: false });
  await closing;
  assert.deepEqual(givenBack, [job.id]);
});
