import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, get } from "node:http";
import { type TestContext, test } from "node:test";
import { createExpressApp } from "../../examples/web-frameworks/src/express.js";
import { createFastifyApp } from "../../examples/web-frameworks/src/fastify.js";
import { createTestMesh, type TestMeshOptions } from "../../src/testing/create-test-mesh.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { listenOnLoopback } from "../support/listen-on-loopback.js";

const png = [0x89, 0x50, 0x4e, 0x47];

async function startMesh(t: TestContext, options: TestMeshOptions = {}) {
  const mesh = await createTestMesh(options);
  t.after(() => mesh.stop());
  return mesh;
}

async function startExpress(t: TestContext, options: TestMeshOptions = {}) {
  const mesh = await startMesh(t, options);
  const { url } = await listenOnLoopback(t, createServer(createExpressApp(mesh.pipeline)));
  return { mesh, url: `${url}/images` };
}

async function startFastify(t: TestContext, options: TestMeshOptions = {}) {
  const mesh = await startMesh(t, options);
  const app = createFastifyApp(mesh.pipeline);
  t.after(() => app.close());
  return { mesh, url: `${await app.listen({ host: "127.0.0.1", port: 0 })}/images/stream` };
}

const post = (body: unknown, signal: AbortSignal | null = null) => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body),
  signal,
});

/** An engine that stays in its first step, with what happens to the request. */
function heldEngine() {
  let begin: () => void = () => {};
  let end: () => void = () => {};
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const cancelled = new Promise<void>((resolve) => {
    end = resolve;
  });
  const engine = createFakeEngine({
    async beforeStep(_step, _request, signal) {
      begin();
      await once(signal, "abort");
      end();
    },
  });
  return { engine, begun, cancelled };
}

test("Express route answers the image with its seed and trace id", async (t) => {
  const { mesh, url } = await startExpress(t);
  const response = await fetch(url, post({ prompt: "a red heart" }));
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "image/png");
  assert.match(response.headers.get("x-seed") ?? "", /^\d+$/);
  assert.deepEqual([...new Uint8Array(await response.arrayBuffer()).subarray(0, 4)], png);
  await mesh.waitForTrace(response.headers.get("x-trace-id") ?? "", 6);
});

test("Express route answers 400 with the pipeline's message, and leaves a broken body to Express", async (t) => {
  const { url } = await startExpress(t);
  const response = await fetch(url, post({ prompt: "" }));
  assert.equal(response.status, 400);
  assert.deepEqual(await response.json(), { error: "prompt: must be at least 1 characters" });
  const broken = await fetch(url, { ...post({}), body: "{" });
  assert.equal(broken.status, 400);
});

test("Express route cancels the engine when its browser disconnects", async (t) => {
  const { engine, begun, cancelled } = heldEngine();
  const { url } = await startExpress(t, { engine });
  const abort = new AbortController();
  const response = fetch(url, post({ prompt: "a red heart" }, abort.signal));
  await begun;
  abort.abort();
  await assert.rejects(response, { name: "AbortError" });
  await cancelled;
});

/** The events of a stream of server-sent events. */
async function eventsOf(response: Response): Promise<{ event: string; data: unknown }[]> {
  const blocks = (await response.text()).split("\n\n").filter((block) => block !== "");
  return blocks.map((block) => {
    const [, event = "", data = ""] = /^event: (.*)\ndata: (.*)$/.exec(block) ?? [];
    return { event, data: JSON.parse(data) };
  });
}

test("Fastify route streams progress and ends with the image", async (t) => {
  const { mesh, url } = await startFastify(t);
  const response = await fetch(`${url}?prompt=a+red+heart`);
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  const events = await eventsOf(response);
  const { url: image, traceId } = Object(events.at(-1)?.data);
  assert.equal(events.at(-1)?.event, "result");
  assert.match(image, /^data:image\/png;base64,/);
  assert.ok(events.some(({ event }) => event === "progress"));
  await mesh.waitForTrace(traceId, 6);
});

test("Fastify route sends an error as an event, and 400 without a prompt", async (t) => {
  const { url } = await startFastify(t);
  assert.deepEqual(await eventsOf(await fetch(`${url}?prompt=`)), [
    { event: "failed", data: { error: "request.prompt: must be at least 1 characters" } },
  ]);
  assert.equal((await fetch(url)).status, 400);
});

test("Fastify route cancels the engine when its browser disconnects", async (t) => {
  const { engine, begun, cancelled } = heldEngine();
  const { url } = await startFastify(t, { engine });
  // Not fetch: Node 20's sometimes keeps the connection of a response whose reading was aborted.
  const browser = get(`${url}?prompt=a+red+heart`).on("error", () => {});
  await begun;
  browser.destroy();
  await cancelled;
});

test("Next.js route answers the image, and errors as JSON", async (t) => {
  const mesh = await startMesh(t, { wire: "port" });
  process.env["PIPELINE_URL"] = mesh.pipelineUrl;
  const { POST } = await import("../../examples/web-frameworks/src/next-route.js");
  const request = (body: string) => POST(new Request("http://localhost/images", { method: "POST", body }));

  const response = await request('{"prompt": "a red heart"}');
  assert.equal(response.status, 200);
  assert.deepEqual([...new Uint8Array(await response.arrayBuffer()).subarray(0, 4)], png);
  assert.equal((await request("{")).status, 400);
  const rejected = await request('{"prompt": ""}');
  assert.deepEqual([rejected.status, await rejected.json()], [400, { error: "prompt: must be at least 1 characters" }]);
});
