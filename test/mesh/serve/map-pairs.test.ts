import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { InferRequestSchema, InferStreamRequestSchema } from "../../../src/gen/throughline/v1/worker_pb.js";
import { findLargeMap } from "../../../src/mesh/serve/map-pairs.js";
import { envelope, http1, postJson } from "../support/raw-http.js";
import { serveEcho } from "../support/serve-echo.js";

const infer = "/throughline.v1.TextToImageWorkerService/Infer";
const inferStream = "/throughline.v1.TextToImageWorkerService/InferStream";

function request(pairs: number) {
  const traceContext = Object.fromEntries(Array.from({ length: pairs }, (_, i) => [`CANARY-${i}`, ""]));
  return create(InferRequestSchema, { prompt: "x", traceContext, options: { seed: 7 } });
}

test("a map is found by its path, however it is nested", () => {
  const whole = toBinary(InferRequestSchema, request(11));
  assert.equal(findLargeMap(InferRequestSchema, whole, 10), "trace_context");
  assert.equal(findLargeMap(InferRequestSchema, whole, 11), undefined);
  const nested = toBinary(InferStreamRequestSchema, create(InferStreamRequestSchema, { request: request(11) }));
  assert.equal(findLargeMap(InferStreamRequestSchema, nested, 10), "request.trace_context");
});

test("a server refuses a map of thousands before it is decoded, in JSON and in binary", async (t) => {
  const { url } = await serveEcho(t);
  const many = request(5_000);
  const json = await postJson(url, infer, JSON.stringify({ prompt: "x", trace_context: many.traceContext }));
  assert.equal(json.status, 400);
  assert.match(json.text, /an object has more than 4096 members/);
  const binary = await http1(url, infer, {
    headers: { "content-type": "application/proto" },
    body: toBinary(InferRequestSchema, many),
  });
  assert.equal(binary.status, 400);
  assert.match(binary.text, /trace_context: a map has more than 4096 pairs/);
  const streamed = await http1(url, inferStream, {
    headers: { "content-type": "application/connect+proto" },
    body: envelope(toBinary(InferStreamRequestSchema, create(InferStreamRequestSchema, { request: many }))),
  });
  assert.match(streamed.text, /request\.trace_context: a map has more than 4096 pairs/);
  for (const { text } of [json, binary, streamed]) {
    assert.doesNotMatch(text, /CANARY/);
  }
  // The contract's own limit speaks for what is smaller.
  const few = await postJson(url, infer, JSON.stringify({ prompt: "x", trace_context: request(17).traceContext }));
  assert.match(few.text, /trace_context: .*16/);
});
