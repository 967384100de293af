import assert from "node:assert/strict";
import { test } from "node:test";
import { jobApp } from "../../support/job-mesh.js";
import { type FalTests, locationsOf, prompt, unknownId } from "./fal-tests.js";

const notFound = "no such request of this caller: it was deleted or has expired, or the id is wrong";

/** The answer names the limit, and not each of them. */
const wrongEntries = Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`key-${index}`, 1]));

export function describeErrors(fal: FalTests): void {
  const { send, post, get, completed, keys } = fal;

  const wrongInputs: readonly (readonly [string, unknown, readonly string[], Record<string, string>?, string?])[] = [
    ["no JSON", "{", ["body"]],
    ["no object", "[]", ["body"]],
    ["JSON that is too deep", `{"prompt":${"[".repeat(10_000_000)}`, ["body"]],
    ["JSON with too many values", `{"loras":[${"{},".repeat(3_000_000)}{}]}`, ["body"]],
    ["no prompt", {}, ["body.prompt"]],
    ["an empty prompt", { prompt: "" }, ["body.prompt"]],
    [
      "several wrong fields",
      { prompt: 1, image_size: "huge", seed: -1 },
      ["body.image_size", "body.seed", "body.prompt"],
    ],
    ["a size that is no multiple of 8", { prompt, image_size: { width: 65, height: 64 } }, ["body.image_size.width"]],
    ["more than one image on the queue", { prompt, num_images: 2 }, ["body.num_images"]],
    ["a carrier that is no map", { prompt, trace_context: "x" }, ["body.trace_context"]],
    ["a carrier with numbers", { prompt, trace_context: { traceparent: 1 } }, ["body.trace_context.traceparent"]],
    ["too many wrong entries of a carrier", { prompt, trace_context: wrongEntries }, ["body.trace_context"]],
    ["too many wrong LoRAs", { prompt, loras: Array(1_000).fill({}) }, ["body.loras"]],
    ["a LoRA by URL", { prompt, loras: [{ path: "https://x.example/l" }] }, ["body.loras.0"]],
    ["an image by URL", { prompt, image_url: "https://x.example/i.png" }, ["body.image_url"]],
    ["embeddings", { prompt, embeddings: [{ path: "x" }] }, ["body.embeddings"]],
    ["prompt expansion", { prompt, expand_prompt: true }, ["body.expand_prompt"]],
    ["a wrong time limit", { prompt }, ["header.x-fal-request-timeout"], { "x-fal-request-timeout": "0.5" }],
    ["a webhook to another host", { prompt }, ["query.fal_webhook"], {}, "?fal_webhook=https://other.invalid/"],
    ["a worker app that is an address", { prompt, worker_app: "http://x" }, ["body.worker_app"], {}, "image-pipeline"],
  ];
  for (const [name, input, expected, headers = {}, place = ""] of wrongInputs) {
    test(`${name} is 422 with its location`, async () => {
      const path = place === "image-pipeline" ? "/acme/image-pipeline" : `/${jobApp}${place}`;
      const answer = await post(path, input, headers);
      assert.equal(answer.status, 422, JSON.stringify(answer.body));
      assert.deepEqual(locationsOf(answer), expected);
      assert.match(answer.header.get("x-fal-request-id") ?? "", /^[0-9a-f]{32}$/);
      assert.ok(!JSON.stringify(answer.body).includes(prompt));
    });
  }

  test("other errors have detail, error_type and its header", async () => {
    const cases = [
      [await post("/acme/other", { prompt }), 403, "forbidden"],
      [await post(`/${jobApp}`, { prompt }, { authorization: "Key wrong" }), 401, "unauthorized"],
      [await get(`/${jobApp}/requests/${unknownId}/status`, { authorization: "Key wrong" }), 401, "unauthorized"],
      [await post(`/${jobApp}`, "prompt=x", { "content-type": "text/plain" }), 415, "bad_request"],
      [await post(`/${jobApp}/infer`, { prompt }), 404, "not_found"],
      [await send("DELETE", `/fal/queue/${jobApp}`), 405, "bad_request"],
      [await get("/fal/unknown"), 404, "not_found"],
      [await get(`/${jobApp}/requests/${unknownId}`), 404, "not_found"],
      [await get(`/${jobApp}/requests/${unknownId}/status`), 404, "not_found"],
      [await get(`/${jobApp}/requests/${unknownId}/status/stream`), 404, "not_found"],
      [await get(`/${jobApp}/requests/not-an-id/status`), 404, "not_found"],
    ] as const;
    for (const [{ status, header, body }, expected, type] of cases) {
      assert.deepEqual([status, body.error_type, header.get("x-fal-error-type")], [expected, type, type]);
      assert.equal(typeof body.detail, "string");
      assert.match(header.get("x-fal-request-id") ?? "", /^[0-9a-f]{32}$/);
    }
    const cancelled = await send("PUT", `/${jobApp}/requests/${unknownId}/cancel`);
    assert.deepEqual([cancelled.status, cancelled.body], [404, { status: "NOT_FOUND", detail: notFound }]);
  });

  test("a request of another caller is as if there were none", async () => {
    const { body } = await post(`/${jobApp}`, { prompt });
    const asBen = { authorization: `Key ${keys.ben}` };
    await completed(body.status_url);
    for (const path of ["", "/status", "/status/stream"]) {
      const { status, body: error } = await get(`${body.response_url}${path}`, asBen);
      assert.deepEqual([status, error.detail], [404, notFound]);
    }
    const cancelled = await send("PUT", body.cancel_url, undefined, asBen);
    assert.deepEqual([cancelled.status, cancelled.body.status], [404, "NOT_FOUND"]);
  });
}
