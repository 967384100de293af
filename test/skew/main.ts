import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { before, suite, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Code, type ConnectError } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { connectStudio, fetchTrace } from "../../src/cli/commands/studio-client.js";
import { createJobClient, createPipelineClient } from "../../src/client/client.js";
import { type Job, JobState } from "../../src/gen/throughline/v1/job_pb.js";
import { compiledProgram } from "../cli/support/compiled-program.js";
import { type RunningCommand, startProgram } from "../cli/support/run-command.js";
import { startCollector } from "../cli/support/start-collector.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { generateJobTree } from "../support/job-trees.js";
import { spanTree } from "../support/span-tree.js";
import { oldCommit, oldProgram, run, whyNoOldCommit } from "./old-program.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const readyAt = /ready at (http\S+)/;
const workerApp = "local/text-to-image-worker";
/** Longer than a test needs to cancel it. */
const longRequest = { prompt: "a pizza", options: { numInferenceSteps: 150, width: 256, height: 256 } };

const callTree = [
  "image-pipeline SERVER",
  "  call-inference-worker CLIENT",
  "  inference SERVER",
  "    diffusion INTERNAL",
  "    upload INTERNAL",
  "  preprocess-prompt INTERNAL",
].join("\n");

/** Services of two versions, as they run beside each other while a deployment is updated. */
const skip = await whyNoOldCommit();

suite(`versions beside each other: ${oldCommit.slice(0, 7)} and this tree`, { skip, timeout: 300_000 }, () => {
  let old = { folder: "", entry: "" };
  before(async () => {
    old = await oldProgram();
  });

  test("the contracts of all services have only grown since then", async () => {
    const image = join(old.folder, "proto.binpb");
    const buf = join(root, "node_modules/@bufbuild/buf/bin/buf");
    await run(process.execPath, [buf, "build", "proto", "--output", image], old.folder);
    await run(process.execPath, [buf, "breaking", "proto", "--against", image], root);
  });

  for (const [name, entriesOf] of [
    ["an old pipeline with a new worker", () => ({ pipeline: old.entry, worker: compiledProgram })],
    ["a new pipeline with an old worker", () => ({ pipeline: compiledProgram, worker: old.entry })],
  ] as const) {
    test(name, async (t) => {
      const mesh = await startMesh(t, entriesOf());

      await t.test("serves calls, whose trace is whole", async () => {
        const { image, traceId, seed } = await mesh.pipeline.generate({ prompt: "a red heart", options: { seed: 7 } });
        assert.equal(seed, 7);
        assert.match(image?.url ?? "", /^http:/);
        const bytes = Buffer.from(await (await fetch(image?.url ?? "")).arrayBuffer());
        assert.equal(bytes.toString("latin1", 1, 4), "PNG");
        assert.equal(await mesh.treeOf(traceId, 6), callTree);
      });

      await t.test("streams progress", async () => {
        const events: string[] = [];
        const options = { numInferenceSteps: 4 };
        for await (const { event } of mesh.pipeline.generateStream({ request: { prompt: "a pizza", options } })) {
          events.push(event.case ?? "");
        }
        assert.ok(events.filter((event) => event === "progress").length >= 4, events.join());
        assert.equal(events.at(-1), "result");
      });

      await t.test("reports what the worker's model does not take, by its field", async () => {
        const { models } = await mesh.pipeline.listModels({});
        const [{ maxSize, sizeMultiple, maxNumInferenceSteps } = assert.fail("no model")] = models;
        assert.ok(maxSize < 2048 && maxNumInferenceSteps > 0, `${maxSize}`);
        const wrong = mesh.pipeline.generate({ prompt: "x", options: { width: maxSize + sizeMultiple } });
        await assert.rejects(wrong, (error: ConnectError) => {
          assert.equal(error.code, Code.InvalidArgument);
          assert.match(error.rawMessage, /options\.width/);
          return true;
        });
        await assert.rejects(mesh.pipeline.generate({ prompt: "x", workerApp: "no/app" }), { code: Code.NotFound });
      });

      await t.test("cancels a call, which frees the worker", async () => {
        const cancel = new AbortController();
        const watch = async () => {
          for await (const { event } of mesh.pipeline.generateStream(
            { request: longRequest },
            { signal: cancel.signal },
          )) {
            if (event.case === "progress" && event.value.step > 1) {
              cancel.abort();
            }
          }
        };
        await assert.rejects(watch(), { code: Code.Canceled });
        // At the worker, another request waits for the end of the first.
        const { timings } = await mesh.pipeline.generate({ prompt: "a red heart", options: { numInferenceSteps: 1 } });
        assert.ok(timings !== undefined && timings.queueMs < timings.totalMs);
      });

      await t.test("runs a job, whose trace is whole", async () => {
        const { job } = await mesh.jobs.createJob({ work: { case: "generate", value: { prompt: "a red heart" } } });
        const last = await mesh.endOf(job);
        assert.equal(last.state, JobState.SUCCEEDED, JSON.stringify(last.detail));
        assert.equal(last.detail.case, "result");
        assert.equal(await mesh.treeOf(last.traceId, 8), generateJobTree);
      });

      await t.test("cancels a running job", async () => {
        const { job } = await mesh.jobs.createJob({ work: { case: "generate", value: longRequest } });
        let last = job;
        for await (const update of mesh.jobs.watchJob({ id: job?.id ?? "" })) {
          last = update.job ?? last;
          if (last?.detail.case === "progress" && last.detail.value.step > 1) {
            await mesh.jobs.cancelJob({ id: last.id });
          }
        }
        assert.equal(last?.state, JobState.CANCELLED);
      });

      await t.test("is stopped without an error", async () => {
        for (const service of mesh.services) {
          service.kill("SIGTERM");
          assert.deepEqual(await service.ended, { code: 0, signal: null }, service.stderr);
        }
      });
    });
  }
});

/** Starts a collector, a worker and a pipeline with jobs. */
async function startMesh(t: TestContext, entries: { readonly pipeline: string; readonly worker: string }) {
  const folder = await temporaryFolder();
  mkdirSync(join(folder, "images"));
  const collector = await startCollector(t);
  const environment = {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_METRICS_EXPORTER: "none",
    OTEL_BSP_SCHEDULE_DELAY: "100",
  };
  const start = async (entry: string, ...args: readonly string[]): Promise<[RunningCommand, string]> => {
    const service = startProgram(
      t,
      [entry, ...args, "--port", "0", "--log-level", "warn", "--grace", "1"],
      environment,
    );
    const [, url = ""] = await service.waitFor(readyAt);
    return [service, url];
  };
  const [worker, workerUrl] = await start(entries.worker, "worker", "--device", "cpu", "--threads", "1");
  const target = `${workerApp}=${new URL(workerUrl).host}`;
  const [pipeline, url] = await start(
    entries.pipeline,
    ...["pipeline", "--worker", target, "--jobs", join(folder, "jobs"), "--images", join(folder, "images")],
  );
  const transport = createConnectTransport({ baseUrl: url, httpVersion: "2" });
  const jobs = createJobClient({ transport });
  const studio = connectStudio(collector.url);
  return {
    services: [pipeline, worker],
    pipeline: createPipelineClient({ transport }),
    jobs,
    async endOf(job: Job | undefined): Promise<Job> {
      let last = job;
      for await (const update of jobs.watchJob({ id: job?.id ?? "" })) {
        last = update.job ?? last;
      }
      return last ?? assert.fail("the job was not returned");
    },
    /** The spans of a trace as a tree, once there are as many that have ended. */
    async treeOf(traceId: string, count: number): Promise<string> {
      for (;;) {
        const interrupt = new AbortController().signal;
        const spans = await fetchTrace({ ...studio, traceId, idleMs: 1000, waitMs: 60_000, interrupt });
        if (spans.filter(({ endUnixNano }) => endUnixNano !== 0n).length >= count) {
          return spanTree(spans);
        }
      }
    },
  };
}
