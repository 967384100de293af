import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { JobService } from "../../src/gen/throughline/v1/job_pb.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { lastOf } from "../support/job-mesh.js";
import { besideInferJobTree, generateJobTree, inferJobTree } from "../support/job-trees.js";
import { spanTree } from "../support/span-tree.js";
import { startJaeger } from "./support/jaeger.js";
import { quickGeneration, startServices } from "./support/start-services.js";

const caller = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" };
const traceContext = { traceparent: `00-${caller.traceId}-${caller.spanId}-01` };

suite("Jaeger", () => {
  test("backend returns the complete traces of jobs", async (t) => {
    const backend = await startJaeger(t);
    const environment = { OTEL_EXPORTER_OTLP_ENDPOINT: backend.endpoints.grpc };
    const baseUrl = await startServices(t, environment, ["--jobs", await temporaryFolder()]);
    const jobs = createClient(JobService, createGrpcTransport({ baseUrl }));

    const generation = { prompt: "a red heart", options: quickGeneration };
    const generate = await jobs.createJob({ work: { case: "generate", value: generation } });
    const { traceId } = await lastOf({ jobs }, generate.job);
    assert.equal(spanTree(await backend.trace(traceId, 8)), generateJobTree);

    const request = { ...generation, traceContext };
    const infer = await jobs.createJob({ work: { case: "infer", value: { request } } });
    const own = await lastOf({ jobs }, infer.job);
    assert.equal(spanTree(await backend.trace(caller.traceId, 3)).replace(` in ${caller.spanId}`, ""), inferJobTree());
    assert.equal(spanTree(await backend.trace(own.traceId, 2)), besideInferJobTree(caller.spanId));
  });
});
