import assert from "node:assert/strict";
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { connect } from "node:http2";
import { test } from "node:test";
import { jobApp } from "../../support/job-mesh.js";
import { eventsOf, type FalTests, prompt, unknownId } from "./fal-tests.js";

export function describeNeighbours(fal: FalTests): void {
  const { send, post, get, keys } = fal;

  test("polls make no spans and no line at info, and do not count against the caller's limits", async () => {
    const asSlow = { authorization: `Key ${keys.slow}` };
    const { status, body } = await post(`/${jobApp}`, { prompt }, asSlow);
    assert.equal(status, 200);
    assert.equal((await post(`/${jobApp}`, { prompt }, asSlow)).status, 429);
    for (let state = ""; state !== "COMPLETED"; ) {
      state = String((await get(body.status_url, asSlow)).body.status);
    }
    fal.mesh.collector.clear();
    const before = fal.mesh.lines.length;
    for (const url of [body.status_url, body.response_url, `/${jobApp}/requests/${unknownId}/status`]) {
      for (let count = 0; count < 5; count++) {
        await get(`${url}`, asSlow);
      }
    }
    // Jobs of other tests may still end.
    const servers = fal.mesh.spans().filter(({ kind, service }) => kind === "SERVER" && service === "image-pipeline");
    assert.deepEqual(servers, []);
    const lines = fal.mesh.lines
      .slice(before)
      .filter((line) => line.includes('"service":"image-pipeline"') && !/"level":"(?:debug|trace)"|"job":/.test(line));
    assert.deepEqual(lines, []);
  });

  test("RPCs and paths of others stay theirs", async () => {
    const rpc = await post("/throughline.v1.ImagePipelineService/Unknown", { prompt });
    assert.deepEqual([rpc.status, rpc.header.get("x-fal-request-id")], [404, null]);
    const grpc = await post(`/${jobApp}`, "", { "content-type": "application/grpc-web+proto" });
    assert.deepEqual([grpc.status, grpc.header.get("x-fal-request-id")], [200, null]);
    assert.equal(grpc.header.get("grpc-status"), "12");
    const connectRpc = await post(`/${jobApp}`, {}, { "connect-protocol-version": "1" });
    assert.deepEqual([connectRpc.status, connectRpc.header.get("x-fal-request-id")], [404, null]);
    for (const path of [`/${jobApp}`, "/images/jobs/x/y.png", "/healthz/x"]) {
      assert.equal((await get(path)).header.get("x-fal-request-id"), null, path);
    }
    const generated = await post("/throughline.v1.ImagePipelineService/Generate", { prompt });
    assert.match(String(generated.body.image?.url), /^data:/);
  });

  test("a path with dots is taken as it was sent, for the selection and for the route", async () => {
    const { hostname, port } = new URL(fal.mesh.url);
    const statusOf = async (path: string) => {
      const headers = { authorization: `Key ${keys.anna}`, "content-type": "application/json" };
      const request = httpRequest({ hostname, port, path, method: "POST", headers });
      request.end(JSON.stringify({ prompt }));
      const [response]: IncomingMessage[] = await once(request, "response");
      assert.ok(response);
      response.resume();
      return [response.statusCode, response.headers["x-fal-request-id"] !== undefined];
    };
    // Below /fal/ or after an app id: fal's, and unknown. Resolved, these would be a submission and a run.
    assert.deepEqual(await statusOf(`/fal/../${jobApp}`), [404, true]);
    assert.deepEqual(await statusOf(`/fal/queue/%2e%2e/run/${jobApp}`), [404, true]);
    assert.deepEqual(await statusOf(`/${jobApp}/../text-to-image-worker`), [404, true]);
    // Nobody's, although it would be a run.
    assert.deepEqual(await statusOf(`/./fal/run/${jobApp}`), [404, false]);
  });

  test("HTTP/2 clients submit, poll, stream and run", async (t) => {
    const session = connect(fal.mesh.url);
    t.after(() => session.close());
    const send = async (method: string, path: string, body = "") => {
      const stream = session.request({
        ":method": method,
        ":path": path,
        authorization: `Key ${keys.anna}`,
        "content-type": "application/json",
      });
      if (method !== "GET") {
        stream.end(body);
      }
      const [header] = await once(stream, "response");
      return { status: header[":status"], id: header["x-fal-request-id"], text: (await stream.toArray()).join("") };
    };
    const submitted = await send("POST", `/${jobApp}`, JSON.stringify({ prompt }));
    assert.equal(submitted.status, 200);
    const path = `/${jobApp}/requests/${submitted.id}`;
    const events = eventsOf((await send("GET", `${path}/status/stream`)).text);
    assert.equal(events.at(-1)?.status, "COMPLETED");
    assert.equal((await send("GET", `${path}/status`)).status, 200);
    assert.match((await send("GET", path)).text, /^\{"images":/);
    assert.match((await send("POST", `/fal/run/${jobApp}`, JSON.stringify({ prompt }))).text, /^\{"images":/);
    assert.equal((await send("PUT", `${path}/cancel`)).status, 400);
    assert.equal((await send("POST", `/${jobApp}`, "{")).status, 422);
  });

  test("pages of allowed origins may call, cancel, and read the request id", async () => {
    const preflight = await send("OPTIONS", "/fal/proxy", undefined, {
      origin: "http://page.example",
      "access-control-request-method": "PUT",
      "access-control-request-headers": "authorization,content-type,x-fal-target-url,x-fal-queue-priority",
    });
    assert.match(preflight.header.get("access-control-allow-methods") ?? "", /\bPUT\b/);
    assert.match(preflight.header.get("access-control-allow-headers") ?? "", /x-fal-target-url.*x-fal-queue-priority/);
    const answer = await get(`/${jobApp}/requests/${unknownId}`, { origin: "http://page.example" });
    assert.equal(answer.header.get("access-control-allow-origin"), "http://page.example");
    assert.match(answer.header.get("access-control-expose-headers") ?? "", /x-fal-request-id/);
  });
}
