import assert from "node:assert/strict";
import { test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import * as z from "zod";
import { JobService, JobState } from "../../src/gen/throughline/v1/job_pb.js";
import { findVersitygw, startVersitygw } from "../s3/versitygw.js";
import { startPostgres, whyNoPostgres } from "../support/postgres.js";
import { steadyPort } from "../support/steady-port.js";
import { startService, whyNoContainer } from "./support/container.js";
import { readYaml } from "./support/manifests.js";

const versitygw = await findVersitygw();
const skip = whyNoContainer || whyNoPostgres || ("missing" in versitygw && versitygw.missing);

const services = z.object({
  services: z.looseObject({
    pipeline: z.looseObject({ environment: z.record(z.string(), z.string()) }),
    worker: z.looseObject({ environment: z.record(z.string(), z.string()), deploy: z.object({ replicas: z.int() }) }),
  }),
});
const generated = z.object({ image: z.object({ url: z.url() }), trace_id: z.string() });
const created = z.object({ job: z.object({ id: z.string() }) });

/**
 * The services of the Compose file that are ours, with its settings, beside a real PostgreSQL and a real S3 store. Only addresses and
 * credentials are others, and nobody collects traces.
 */
export function describeComposeServices(treeOf: (role: string) => string): void {
  test("settings of the Compose file serve calls and jobs with PostgreSQL and S3", { skip }, async (t) => {
    const { pipeline, worker } = services.parse(readYaml("deploy/compose.yaml")).services;
    const postgres = await startPostgres();
    t.after(() => postgres.remove());
    const store = await startVersitygw("path" in versitygw ? versitygw.path : "");
    t.after(() => store.remove());
    const here = { THROUGHLINE_HOST: "127.0.0.1" };
    const { OTEL_EXPORTER_OTLP_ENDPOINT: _worker, ...ofWorker } = worker.environment;
    const { OTEL_EXPORTER_OTLP_ENDPOINT: _pipeline, ...ofPipeline } = pipeline.environment;

    const addresses: string[] = [];
    for (let count = 0; count < worker.deploy.replicas; count++) {
      const port = await steadyPort();
      const settings = { ...ofWorker, ...here, THROUGHLINE_WORKER_PORT: `${port}` };
      await startService(t, treeOf("worker-cpu"), ["worker"], settings).waitFor(/is ready at/);
      addresses.push(`127.0.0.1:${port}`);
    }
    const port = await steadyPort();
    const running = startService(t, treeOf("pipeline"), ["pipeline"], {
      ...ofPipeline,
      ...here,
      THROUGHLINE_PIPELINE_PORT: `${port}`,
      THROUGHLINE_WORKERS: `local/text-to-image-worker=ipv4:${addresses.join(",")}`,
      THROUGHLINE_JOBS: await postgres.createDatabase(),
      THROUGHLINE_S3_ENDPOINT: store.endpoint,
      THROUGHLINE_S3_PUBLIC_ENDPOINT: store.endpoint,
      AWS_ACCESS_KEY_ID: "tester",
      AWS_SECRET_ACCESS_KEY: "secret-one",
    });
    await running.waitFor(/is ready at/);

    const call = async (method: string, body: object): Promise<unknown> => {
      const response = await fetch(`http://127.0.0.1:${port}/throughline.v1.${method}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
      const text = await response.text();
      assert.equal(response.status, 200, text);
      return JSON.parse(text);
    };
    const request = { prompt: "a red heart", options: { num_inference_steps: 2 } };
    const { image, trace_id } = generated.parse(await call("ImagePipelineService/Generate", request));
    assert.match(trace_id, /^[0-9a-f]{32}$/);
    assert.ok(image.url.startsWith(`${store.endpoint}/images/`));
    const fetched = await fetch(image.url);
    assert.deepEqual([fetched.status, fetched.headers.get("content-type")], [200, "image/png"]);

    const { job } = created.parse(await call("JobService/CreateJob", { generate: request }));
    let last: JobState | undefined;
    const transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` });
    for await (const { job: current } of createClient(JobService, transport).watchJob({ id: job.id })) {
      last = current?.state;
    }
    assert.equal(last, JobState.SUCCEEDED);
    running.process.kill("SIGTERM");
    assert.equal(await running.ended, 0, running.output());
  });
}
