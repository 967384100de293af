import assert from "node:assert/strict";
import { request as httpRequest } from "node:http";
import { test } from "node:test";
import sharp from "sharp";
import type { SpanRecord } from "../../../src/trace/span-record.js";
import { jobApp } from "../../support/job-mesh.js";
import { spanTree } from "../../support/span-tree.js";
import { carrier, eventsOf, type FalBody, type FalTests, prompt, runHost } from "./fal-tests.js";

export function describeRuns(fal: FalTests): void {
  const { send, post, get, completed, spansWith, useHeld, useFake, keys } = fal;

  test("a run answers the output itself, with several images, and as a stream", async () => {
    const two = await post(`/fal/run/${jobApp}`, { prompt, num_images: 2, seed: 5 });
    assert.equal(two.status, 200);
    assert.match(two.header.get("x-fal-request-id") ?? "", /^[0-9a-f]{32}$/);
    assert.deepEqual([two.body.images.length, two.body.seed], [2, 5]);
    const urls = two.body.images.map(({ url }) => url);
    assert.equal(new Set(urls).size, 2);
    const bytes = Buffer.from((urls[0] ?? "").replace("data:image/png;base64,", ""), "base64");
    assert.equal((await sharp(bytes).metadata()).width, 64);

    const worker = await post(`/fal/run/${jobApp}`, { prompt, trace_context: carrier });
    assert.deepEqual(Object.keys(worker.body), ["image"]);

    const events = eventsOf((await post(`/fal/run/${jobApp}/stream`, { prompt })).text);
    assert.ok(events.some(({ progress }) => progress?.step === 4 && progress.total_steps === 4));
    assert.equal(events.at(-1)?.images.length, 1);
    // Of a job, a slow reader gets the newest progress, or none.
    const ofWorker = eventsOf((await post(`/fal/run/${jobApp}/stream`, { prompt, trace_context: carrier })).text);
    assert.equal(ofWorker.at(-1)?.image.content_type, "image/png");
    const failed = await post(`/fal/run/${jobApp}/stream`, { prompt, loras: [{ path: "unknown" }] });
    assert.equal(failed.status, 422, "nothing was sent before");
  });

  test("a run of image-pipeline has the pipeline's six spans, and a queued one has them below its job's", async () => {
    const input = { prompt, worker_app: jobApp };
    const run = (await post("/fal/run/me/image-pipeline", input)).body;
    const queued = (await post("/me/image-pipeline", input)).body;
    await completed(queued.status_url);
    const ofJob = (await get(queued.response_url)).body;
    const isOf = (body: FalBody) => (span: SpanRecord) => span.traceId === body.trace_id;
    const spans = await fal.mesh.collector.waitFor(
      (all) => all.filter(isOf(run)).length >= 6 && all.filter(isOf(ofJob)).length >= 8,
      AbortSignal.timeout(30_000),
    );
    const six = (kind: string, indent: string) =>
      [
        `image-pipeline ${kind}`,
        "  call-inference-worker CLIENT",
        "  inference SERVER",
        "    diffusion INTERNAL",
        "    upload INTERNAL",
        "  preprocess-prompt INTERNAL",
      ].map((line) => indent + line);
    assert.deepEqual(spanTree(spans.filter(isOf(run))).split("\n"), six("SERVER", ""));
    assert.deepEqual(spanTree(spans.filter(isOf(ofJob))).split("\n"), [
      "send PRODUCER",
      "  process CONSUMER → send",
      ...six("INTERNAL", "    "),
    ]);
    const root = spans.filter(isOf(run)).find(({ name }) => name === "image-pipeline");
    assert.equal(root?.attributes["throughline.front"], "fal");
  });

  test("at the run host, a bare path runs, and submits elsewhere", async () => {
    const atHost = (host: string, path: string) =>
      new Promise<string>((resolve, reject) => {
        const { port } = new URL(fal.mesh.url);
        const headers = { host, authorization: `Key ${keys.anna}`, "content-type": "application/json" };
        const sent = httpRequest({ port, path, method: "POST", headers }, (response) => {
          response.setEncoding("utf8");
          let text = "";
          response.on("data", (piece) => {
            text += piece;
          });
          response.on("end", () => resolve(text));
        });
        sent.on("error", reject).end(JSON.stringify({ prompt }));
      });
    assert.match(await atHost(runHost, `/${jobApp}`), /^\{"images":/);
    const queued = JSON.parse(await atHost(`queue.${runHost}`, `/${jobApp}`));
    assert.equal(queued.status_url, `http://queue.${runHost}/${jobApp}/requests/${queued.request_id}/status`);
    await completed(`/${jobApp}/requests/${queued.request_id}/status`);
  });

  test("a client that leaves a run ends its generation", async () => {
    for (const input of [{ prompt }, { prompt, trace_context: {} }]) {
      const held = useHeld(2);
      fal.mesh.collector.clear();
      const abort = new AbortController();
      const run = fetch(`${fal.mesh.url}/fal/run/${jobApp}`, {
        method: "POST",
        headers: { authorization: `Key ${keys.anna}`, "content-type": "application/json" },
        body: JSON.stringify(input),
        signal: abort.signal,
      });
      await held.reached;
      abort.abort();
      await assert.rejects(run);
      const spans = await spansWith("inference");
      const inference = spans.find(({ name }) => name === "inference");
      assert.equal(inference?.attributes["rpc.response.status_code"], "CANCELLED");
    }
    useFake();
  });

  test("the proxy route takes path and queue or run of x-fal-target-url, whatever its host", async () => {
    const proxy = (method: string, target: string, body?: unknown) =>
      send(method, "/fal/proxy", body, { "x-fal-target-url": target });
    const { body } = await proxy("POST", `https://queue.fal.run/${jobApp}`, { prompt });
    assert.equal(body.status, "IN_QUEUE");
    const requests = `https://queue.fal.run/${jobApp}/requests/${body.request_id}`;
    await completed(body.status_url);
    assert.equal((await proxy("GET", `${requests}/status?logs=1`)).body.status, "COMPLETED");
    assert.ok("images" in (await proxy("GET", requests)).body);
    assert.equal((await proxy("PUT", `${requests}/cancel`)).body.status, "ALREADY_COMPLETED");
    assert.ok("images" in (await proxy("POST", `http://169.254.169.254/${jobApp}`, { prompt })).body);
    assert.equal((await proxy("POST", "https://rest.fal.ai/storage/upload/initiate", {})).status, 404);
    const wrong = await proxy("POST", "no url", {});
    assert.deepEqual([wrong.status, wrong.body.detail?.[0]?.loc], [422, ["header", "x-fal-target-url"]]);
  });
}
