import assert from "node:assert/strict";
import { test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { observe } from "../../src/app/observe.js";
import { JobService } from "../../src/gen/throughline/v1/job_pb.js";
import { ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { createWorkerApp } from "../../src/worker/worker-app.js";
import { startCommand } from "../cli/support/run-command.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { createHeldEngine } from "../support/held-engine.js";
import { createKedaClient } from "../support/keda-client.js";
import type { Postgres } from "../support/postgres.js";

const app = "acme/worker";

/** KEDA asks one of several pipelines. */
export function describeKeda(postgres: () => Postgres): void {
  test("every pipeline of a database tells KEDA the jobs and calls of all of them", async (t) => {
    const held = createHeldEngine();
    const { telemetry, logger } = observe({ serviceName: "worker", level: "silent", environment: {}, write() {} });
    const worker = await createWorkerApp({ startEngine: async () => held.engine, telemetry, logger }).serve({
      port: 0,
    });
    t.after(() => worker.stop({ graceMs: 0 }));
    const database = await postgres().createDatabase();
    const images = await temporaryFolder();
    const flags = ["--port", "0", "--keda-port", "0", "--jobs", database, "--images", images];
    const start = async () => {
      const command = startCommand(t, ["pipeline", ...flags, "--worker", `${app}=127.0.0.1:${worker.port}`]);
      const [, url = ""] = await command.waitFor(/is ready at (\S+)/);
      const [, address = ""] = await command.waitFor(/"url":"http:\/\/([^"]*)","msg":"KEDA can ask/);
      const keda = createKedaClient(address);
      t.after(() => keda.close());
      const ref = { name: "w", namespace: "n", scalerMetadata: { app, targetPerReplica: "1" } };
      const transport = createGrpcTransport({ baseUrl: url });
      return {
        command,
        jobs: createClient(JobService, transport),
        pipeline: createClient(ImagePipelineService, transport),
        active: keda.streamIsActive(ref),
        async untilWorkIs(count: number) {
          while ((await keda.metrics(ref, "throughline-work"))[0]?.float !== count) {
            // The others' calls arrive within half a second.
          }
        },
      };
    };
    const one = await start();
    const two = await start();
    assert.deepEqual([await one.active.next(), await two.active.next()], [false, false]);
    const call = one.pipeline.generate({ prompt: "a call" });
    await held.reached;
    assert.equal(await two.active.next(), true, "at a call of another pipeline");
    await two.jobs.createJob({ work: { case: "generate", value: { prompt: "a job" } } });
    for (const each of [one, two]) {
      await each.untilWorkIs(2);
    }
    held.release();
    await call;
    for (const each of [one, two]) {
      await each.untilWorkIs(0);
    }
    one.command.kill("SIGTERM");
    assert.deepEqual(await one.command.ended, { code: 0, signal: null });
    two.command.kill("SIGTERM");
    assert.deepEqual(await two.command.ended, { code: 0, signal: null });
  });
}
