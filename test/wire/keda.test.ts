import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import * as grpc from "@grpc/grpc-js";
import { observe } from "../../src/app/observe.js";
import { describeJob } from "../../src/cli/commands/job-text.js";
import { JobService, JobState } from "../../src/gen/throughline/v1/job_pb.js";
import { ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createWorkerApp, type ManagedEngine } from "../../src/worker/worker-app.js";
import { startCommand } from "../cli/support/run-command.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { createHeldEngine } from "../support/held-engine.js";
import { fillTestFolder } from "../support/job-database.js";
import { createKedaClient } from "../support/keda-client.js";
import { steadyPort } from "../support/steady-port.js";

const app = "acme/worker";
const ref = {
  name: "text-to-image-worker",
  namespace: "throughline",
  scalerMetadata: { scalerAddress: "image-pipeline-keda:9466", app, targetPerReplica: "2" },
};

/** A pipeline as a process, with jobs and KEDA's port, and a worker port at which nobody listens yet. */
async function startPipeline(t: TestContext) {
  const jobs = join(await temporaryFolder(), "jobs");
  await fillTestFolder(jobs);
  const workerPort = await steadyPort();
  const workers = `${app}=ipv4:127.0.0.1:${workerPort}`;
  const command = startCommand(t, [
    ...["pipeline", "--port", "0", "--keda-port", "0", "--log-level", "info", "--jobs", jobs, "--worker", workers],
  ]);
  const [, url = ""] = await command.waitFor(/is ready at (\S+)/);
  const [, keda = ""] = await command.waitFor(/"url":"http:\/\/([^"]*)","msg":"KEDA can ask/);
  const transport = createGrpcTransport({ baseUrl: url });
  const client = createKedaClient(keda);
  t.after(() => client.close());
  return {
    command,
    keda: client,
    jobs: createClient(JobService, transport),
    pipeline: createClient(ImagePipelineService, transport),
    /** As KEDA scales from zero to one. */
    async scaleUp(t: TestContext, engine: ManagedEngine) {
      const { telemetry, logger } = observe({ serviceName: "worker", level: "silent", environment: {}, write() {} });
      const worker = await createWorkerApp({ startEngine: async () => engine, telemetry, logger }).serve({
        port: workerPort,
      });
      t.after(() => worker.stop({ graceMs: 0 }));
      return { scaleDown: () => worker.stop({ graceMs: 0 }) };
    },
  };
}

test("KEDA's client", async (t) => {
  const system = await startPipeline(t);

  await t.test("KEDA scales an app from zero for a waiting job, and back when it has ended", async (inner) => {
    const { keda, jobs, scaleUp } = system;
    assert.deepEqual(await keda.metricSpecs(ref), [{ metricName: "throughline-work", float: 2, whole: "2" }]);
    assert.equal(await keda.streamMetricSpec(ref), grpc.status.UNIMPLEMENTED, "KEDA goes on without it");
    const metric = async () => (await keda.metrics(ref, "throughline-work")).map(({ float, whole }) => [float, whole]);
    const active = keda.streamIsActive(ref);
    assert.equal(await active.next(), false);
    assert.equal(await keda.isActive(ref), false);
    assert.deepEqual(await metric(), [[0, "0"]]);

    for (const prompt of ["a red heart", "a slice of pizza"]) {
      const { job } = await jobs.createJob({ work: { case: "generate", value: { prompt } } });
      assert.ok(job?.detail.case === "queued");
      assert.deepEqual(
        [job.detail.value.noWorker, job.detail.value.estimatedWaitMs],
        [true, 0],
        "without a worker there is no estimate",
      );
      assert.match(describeJob(job), /waits for a worker to start$/);
    }
    assert.equal(await active.next(), true);
    assert.equal(await keda.isActive(ref), true);
    assert.deepEqual(await metric(), [[2, "2"]]);

    const [first] = (await jobs.listJobs({})).jobs.toReversed();
    const held = createHeldEngine();
    const { scaleDown } = await scaleUp(inner, held.engine);
    const states: JobState[] = [];
    for await (const { job } of jobs.watchJob({ id: first?.id ?? "" })) {
      if (states.at(-1) === job?.state) {
        continue;
      }
      states.push(job?.state ?? JobState.UNSPECIFIED);
      if (job?.state === JobState.RUNNING) {
        assert.deepEqual(await metric(), [[2, "2"]], "what runs counts, or its worker would be taken away");
        held.release();
      }
    }
    assert.deepEqual(states.slice(-2), [JobState.RUNNING, JobState.SUCCEEDED]);
    assert.equal(await active.next(), false);
    assert.deepEqual(await metric(), [[0, "0"]]);
    await scaleDown();

    const { job } = await jobs.createJob({ work: { case: "generate", value: { prompt: "again" } } });
    assert.equal(await active.next(), true);
    await scaleUp(inner, createFakeEngine());
    let last: JobState | undefined;
    for await (const update of jobs.watchJob({ id: job?.id ?? "" })) {
      last = update.job?.state;
    }
    assert.equal(last, JobState.SUCCEEDED);
    assert.equal(await active.next(), false);
    active.cancel();
  });

  await t.test("calls count while they run, and one that finds no worker wakes the app", async (inner) => {
    const { keda, pipeline, scaleUp } = system;
    const active = keda.streamIsActive(ref);
    assert.equal(await active.next(), false);
    // The jobs' worker has gone.
    await assert.rejects(pipeline.generate({ prompt: "a red heart" }), { code: Code.Unavailable });
    assert.equal(await active.next(), true);
    assert.deepEqual(
      (await keda.metrics(ref, "throughline-work")).map(({ float }) => float),
      [0],
      "callers who try again and again are no reason for a second worker",
    );

    const held = createHeldEngine();
    await scaleUp(inner, held.engine);
    const generate = async (): Promise<unknown> => {
      for (;;) {
        try {
          return await pipeline.generate({ prompt: "a red heart" });
        } catch (error) {
          assert.match(String(error), /unavailable/, "the pipeline has not seen the worker yet");
        }
      }
    };
    const calls = [generate(), generate()];
    await held.reached;
    while ((await keda.metrics(ref, "throughline-work"))[0]?.float !== 2) {
      // The second call is on its way.
    }
    held.release();
    await Promise.all(calls);
    assert.equal((await keda.metrics(ref, "throughline-work"))[0]?.float, 0);
    assert.equal(await keda.isActive(ref), true, "for a minute, so that polls see short calls too");
    await assert.rejects(keda.isActive({ ...ref, scalerMetadata: { app } }), {
      code: grpc.status.INVALID_ARGUMENT,
      details: /^scalerMetadata\.targetPerReplica: must be /,
    });
  });

  await t.test("stream ends with the pipeline, without an error", async () => {
    const { command, keda } = system;
    const active = keda.streamIsActive(ref);
    await active.next();
    command.kill("SIGTERM");
    assert.equal(await active.ended, grpc.status.OK, "KEDA reconnects after 2 s, without back-off");
    assert.deepEqual(await command.ended, { code: 0, signal: null });
  });
});
