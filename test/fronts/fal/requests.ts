import assert from "node:assert/strict";
import { test } from "node:test";
import { jobApp } from "../../support/job-mesh.js";
import { carrier, eventsOf, type FalTests, maxStatusStreams, prompt } from "./fal-tests.js";

export function describeRequests(fal: FalTests): void {
  const { send, post, get, completed, jobsOf, spansWith, useHeld, useFake, keys } = fal;

  test("the worker's app takes the original's input, and the worker's spans hang on its carrier untouched", async () => {
    fal.mesh.collector.clear();
    const { status, header, body } = await post(`/${jobApp}`, { prompt: "a  red heart", trace_context: carrier });

    const id = body.request_id;
    assert.equal(status, 200);
    assert.match(id, /^[0-9a-f]{32}$/);
    assert.equal(header.get("x-fal-request-id"), id);
    const url = `${fal.mesh.url}/${jobApp}/requests/${id}`;
    assert.deepEqual(body, {
      status: "IN_QUEUE",
      queue_position: 0,
      request_id: id,
      response_url: url,
      status_url: `${url}/status`,
      cancel_url: `${url}/cancel`,
    });
    const done = await completed(`${url}/status?logs=False`);
    assert.equal(done.status, 200);
    const { metrics, ...rest } = done.body;
    assert.ok(metrics.inference_time > 0);
    const { queue_position: _, ...common } = body;
    assert.deepEqual(rest, { ...common, status: "COMPLETED", logs: null });
    const result = await get(url);
    assert.deepEqual(Object.keys(result.body), ["image"]);
    const { url: imageUrl, ...image } = result.body.image;
    assert.match(imageUrl, new RegExp(`^${fal.mesh.url}/images/jobs/${id}/\\w+\\.png$`));
    assert.deepEqual(Object.keys(image), ["content_type", "file_name", "file_size", "width", "height"]);
    assert.deepEqual([image.content_type, image.width, image.height], ["image/png", 64, 64]);

    const [, traceId, spanId] = carrier.traceparent.split("-");
    const spans = await spansWith("process");
    const inference = spans.find(({ name }) => name === "inference");
    assert.deepEqual([inference?.traceId, inference?.parentSpanId, inference?.traceState], [traceId, spanId, "a=1"]);
    // The prompt is not cleaned: this is no call of Generate.
    assert.equal(inference?.attributes["prompt.length"], 12);
    assert.deepEqual(
      spans.filter((span) => span.traceId === traceId).map(({ name }) => name),
      ["diffusion", "upload", "inference"],
    );
    const ofJob = spans.filter((span) => span.traceId !== traceId);
    assert.deepEqual(ofJob.map(({ name }) => name).sort(), ["process", "send"]);
    assert.ok(ofJob.some(({ links }) => links.some((link) => link.traceId === traceId && link.spanId === spanId)));
  });

  test("image-pipeline answers the original's output, and other apps that of fast-sdxl", async () => {
    const pipeline = (await post("/any-owner/image-pipeline", { prompt: "a  heart", worker_app: jobApp })).body;
    await completed(pipeline.status_url);
    const { image, trace_id, ...none } = (await get(pipeline.response_url)).body;
    assert.match(image.url, /\.png$/);
    assert.match(trace_id, /^[0-9a-f]{32}$/);
    assert.deepEqual(none, {});

    const input = { prompt, seed: 7, num_inference_steps: 2, image_size: { width: 128, height: 64 }, format: "jpeg" };
    const images = (await post(`/${jobApp}`, { ...input, guidance_scale: 0, unknown: 1, enable_safety_checker: true }))
      .body;
    await completed(images.status_url);
    const output = (await get(images.response_url)).body;
    assert.deepEqual(Object.keys(output), ["images", "timings", "seed", "has_nsfw_concepts", "prompt"]);
    assert.deepEqual([output.seed, output.prompt, output.has_nsfw_concepts], [7, prompt, [false]]);
    assert.ok(output.timings.inference > 0);
    const [first] = output.images;
    assert.deepEqual([first?.content_type, first?.width, first?.height], ["image/jpeg", 128, 64]);

    // The default app, with the image in the answer.
    const inline = (await post("/fal-ai/fast-sdxl", { prompt, sync_mode: true })).body;
    await completed(inline.status_url);
    assert.match((await get(inline.response_url)).body.images[0]?.url ?? "", /^data:image\/png;base64,/);
  });

  test("a running request reports its progress, a waiting one its position, and a cancel frees the engine", async () => {
    const held = useHeld(2);
    try {
      const running = (await post(`/${jobApp}`, { prompt, trace_context: {} })).body;
      await held.reached;
      const waiting = (await post(`/fal/queue/${jobApp}`, { prompt }, { "x-fal-queue-priority": "normal" })).body;
      assert.equal(waiting.status_url, `${fal.mesh.url}/fal/queue/${jobApp}/requests/${waiting.request_id}/status`);
      const behind = (await post(`/${jobApp}`, { prompt }, { "x-fal-queue-priority": "low" })).body;
      assert.equal(behind.queue_position, 1);

      const progress = await get(`${running.status_url}?logs=1`);
      assert.deepEqual([progress.status, progress.body.status], [202, "IN_PROGRESS"]);
      assert.ok(Array.isArray(progress.body.logs));
      assert.equal((await get(running.status_url)).body.logs, null);
      const queued = await get(behind.status_url);
      assert.deepEqual([queued.status, queued.body.status, queued.body.queue_position], [202, "IN_QUEUE", 1]);
      const early = await get(running.response_url);
      assert.deepEqual([early.status, early.body.error_type], [400, "bad_request"]);

      const cancel = () => send("PUT", running.cancel_url);
      const cancelled = await cancel();
      assert.deepEqual([cancelled.status, cancelled.body], [202, { status: "CANCELLATION_REQUESTED" }]);
      const { body } = await get(running.status_url);
      assert.deepEqual([body.status, body.error_type], ["COMPLETED", "client_cancelled"]);
      // The next one has the engine, which stands again.
      while ((await get(waiting.status_url)).body.status === "IN_QUEUE") {}
      const late = await cancel();
      assert.deepEqual([late.status, late.body.status], [400, "ALREADY_COMPLETED"]);
      const result = await get(running.response_url);
      assert.deepEqual([result.status, result.header.get("x-fal-error-type")], [499, "client_cancelled"]);
    } finally {
      held.release();
    }
    for (const { id, state } of (await jobsOf(keys.anna).listJobs({})).jobs) {
      if (state <= 2) {
        assert.equal((await completed(`/${jobApp}/requests/${id}/status`)).body.error, undefined);
      }
    }
    useFake();
  });

  test("a status stream sends each status once, and ends with COMPLETED", async () => {
    const held = useHeld(2);
    const { body } = await post(`/${jobApp}`, { prompt });
    await held.reached;
    const response = await fetch(`${body.status_url}/stream?logs=1`, {
      headers: { authorization: `Key ${keys.anna}` },
    });
    assert.equal(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
    assert.equal(response.headers.get("x-fal-request-id"), body.request_id);
    held.release();
    const events = eventsOf(await response.text());
    const states = events.map((event) => event.status);
    assert.deepEqual([states[0], states.at(-1)], ["IN_PROGRESS", "COMPLETED"]);
    assert.equal(states.filter((state) => state === "COMPLETED").length, 1);
    assert.equal(
      new Set(events.map((event) => JSON.stringify({ ...event, logs: event.logs?.[0]?.message }))).size,
      events.length,
    );
    useFake();
  });

  test("a client has a limit of open status streams, of its own, and a closed one makes place", async () => {
    const held = useHeld(1);
    const { body } = await post(`/${jobApp}`, { prompt });
    await held.reached;
    const open = async (signal?: AbortSignal) =>
      fetch(`${body.status_url}/stream`, { headers: { authorization: `Key ${keys.anna}` }, ...(signal && { signal }) });
    const leaving = new AbortController();
    const first = await open(leaving.signal);
    const others = await Promise.all(Array.from({ length: maxStatusStreams - 1 }, () => open()));
    assert.ok([first, ...others].every(({ status }) => status === 200));
    const above = await open();
    assert.deepEqual([above.status, above.headers.get("retry-after")], [429, "1"]);
    assert.match(await above.text(), /this client has 3 open status streams/);
    const asBen = { authorization: `Key ${keys.ben}` };
    assert.equal((await get(`${body.status_url}/stream`, asBen)).status, 404, "no limit, but no such request either");
    leaving.abort();
    let next = await open();
    while (next.status === 429) {
      await next.text();
      next = await open();
    }
    held.release();
    for (const response of [...others, next]) {
      assert.equal(eventsOf(await response.text()).at(-1)?.status, "COMPLETED");
    }
    useFake();
  });

  test("a failed request is COMPLETED with its error, and its result has a status that clients do not retry", async () => {
    const held = useHeld(1);
    const { body } = await post(`/${jobApp}`, { prompt });
    await held.reached;
    held.fail(new Error("a secret of the engine"));
    const done = await completed(body.status_url);
    assert.deepEqual(
      [done.status, done.body.status, done.body.error, done.body.error_type],
      [200, "COMPLETED", "internal error", "internal_error"],
    );
    const result = await get(body.response_url);
    assert.equal(result.status, 500);
    assert.deepEqual(result.body, {
      detail: "internal error",
      error_type: "internal_error",
      message: "internal error",
    });
    useFake();

    // The worker checks what its model takes.
    const wrong = (await post(`/${jobApp}`, { prompt, loras: [{ path: "unknown" }] })).body;
    assert.equal((await completed(wrong.status_url)).body.error_type, "bad_request");
    const rejected = await get(wrong.response_url);
    assert.equal(rejected.status, 422);
    assert.deepEqual(rejected.body.detail?.[0]?.loc?.slice(0, 2), ["body", "loras"]);
  });
}
