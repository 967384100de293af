import assert from "node:assert/strict";
import test from "node:test";
import { createTestMesh } from "../../src/testing/create-test-mesh.js";
import { connectHttp2, envelope, http2Request } from "../mesh/support/raw-http.js";

const services = [
  ["pipeline", "throughline.v1.ImagePipelineService", "Generate"],
  ["worker", "throughline.v1.TextToImageWorkerService", "Infer"],
] as const;
const connectsWords = "cannot decode field throughline.v1.GenerationOptions.seed from JSON: expected number (uint32)";
const hint = "a seed is a whole number from 0 to 4294967295; leave it out for a random one";

test("seed that JSON cannot give as uint32 is rejected with what a seed takes", async (t) => {
  const mesh = await createTestMesh({ wire: "port" });
  t.after(() => mesh.stop());
  const post = async (url: string, type: string, body: string | Buffer) =>
    (await fetch(url, { method: "POST", headers: { "content-type": type }, body: Buffer.from(body) })).text();
  for (const [name, service, method] of services) {
    const base = name === "pipeline" ? mesh.pipelineUrl : mesh.workerUrl;
    for (const [seed, problem] of [
      ["-1", ": -1 out of range"],
      ['"-1"', ": -1 out of range"],
      ["4294967296", ": 4294967296 out of range"],
      ["1.5", ", got 1.5"],
    ]) {
      const json = `{"prompt":"x","options":{"seed":${seed}}}`;
      const message = `${connectsWords}${problem}; ${hint}`;
      const expected = { code: "invalid_argument", message };
      const unary = await post(`${base}/${service}/${method}`, "application/json", json);
      assert.deepEqual(JSON.parse(unary), expected, `${name}, unary, ${seed}`);
      const stream = await post(
        `${base}/${service}/${method}Stream`,
        "application/connect+json",
        envelope(`{"request":${json}}`),
      );
      assert.deepEqual(JSON.parse(stream.slice(5)).error, expected, `${name}, stream, ${seed}`);
      const grpc = await http2Request(connectHttp2(t, base), `/${service}/${method}`, {
        headers: { "content-type": "application/grpc+json", te: "trailers" },
        body: envelope(json),
      });
      assert.equal(decodeURIComponent(String(grpc.headers["grpc-message"])), message, `${name}, gRPC, ${seed}`);
    }
  }
});

test("other field that JSON cannot give has Connect's message alone", async (t) => {
  const mesh = await createTestMesh({ wire: "port" });
  t.after(() => mesh.stop());
  const response = await fetch(`${mesh.pipelineUrl}/throughline.v1.ImagePipelineService/Generate`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: '{"prompt":"x","options":{"width":-1}}',
  });
  assert.deepEqual(await response.json(), {
    code: "invalid_argument",
    message:
      "cannot decode field throughline.v1.GenerationOptions.width from JSON: expected number (uint32): -1 out of range",
  });
});

test("data: URI in place of an image's base64 is rejected with what to send", async (t) => {
  const mesh = await createTestMesh({ wire: "port" });
  t.after(() => mesh.stop());
  for (const [url, path] of [
    [mesh.pipelineUrl, "throughline.v1.ImagePipelineService/Generate"],
    [mesh.workerUrl, "throughline.v1.TextToImageWorkerService/Infer"],
  ]) {
    const response = await fetch(`${url}/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: '{"prompt":"x","options":{"init_image":"data:image/png;base64,AAAA"}}',
    });
    assert.deepEqual(await response.json(), {
      code: "invalid_argument",
      message:
        "cannot decode field throughline.v1.GenerationOptions.init_image from JSON: invalid base64 string; send the bytes of the file in base64, without data: before them",
    });
  }
});
