import assert from "node:assert/strict";
import { once } from "node:events";
import * as http from "node:http";
import * as http2 from "node:http2";
import { test } from "node:test";
import { startCommand } from "./support/run-command.js";

const readyAt = /^\S+ is ready at (http:\/\/127\.0\.0\.1:\d+)$/m;
const studio = "/throughline.studio.v1.StudioService";

/** Status of an answer to who asks for a server by this name, over HTTP/1.1. */
async function ask(url: string, host: string, method = "POST", headers: http.OutgoingHttpHeaders = {}) {
  const request = http.request(url, {
    method,
    agent: false,
    headers: { "content-type": "application/json", ...headers, host },
  });
  request.end(method === "POST" ? "{}" : undefined);
  const [response] = await once(request, "response");
  await response.toArray();
  return response.statusCode;
}

async function askByHttp2(url: string, authority: string) {
  const session = http2.connect(url);
  const stream = session.request({
    ":method": "POST",
    ":path": `${studio}/GetStudio`,
    ":authority": authority,
    "content-type": "application/json",
  });
  stream.end("{}");
  const [headers] = await once(stream, "response");
  session.destroy();
  return headers[":status"];
}

test("page that uses DNS rebinding to reach loopback reads nothing from the studio", async (t) => {
  const collector = startCommand(t, ["collector", "--port", "0"]);
  const [, collectorUrl = ""] = await collector.waitFor(readyAt);
  const pipeline = startCommand(t, [
    ...["pipeline", "--port", "0", "--worker", "acme/worker=127.0.0.1:1", "--public-url", "https://studio.example"],
    ...["--studio", "--studio-collector", collectorUrl],
  ]);
  const [, url = ""] = await pipeline.waitFor(readyAt);
  const trace = `/traces/${"a".repeat(32)}`;
  const statuses = async (host: string) => [
    await ask(`${url}${studio}/GetStudio`, host),
    await ask(`${url}${studio}/ListTraces`, host),
    await ask(`${url}/`, host, "GET"),
    await askByHttp2(url, host),
    await ask(`${collectorUrl}${studio}/ListTraces`, host),
    await ask(`${collectorUrl}${trace}`, host, "GET"),
  ];
  assert.deepEqual(await statuses("evil.example:50051"), [403, 403, 403, 403, 403, 403]);
  const [getStudio, listTraces, page, byHttp2, ...atCollector] = await statuses("localhost:50051");
  assert.deepEqual([getStudio, listTraces, byHttp2, ...atCollector], [200, 200, 200, 200, 200]);
  assert.notEqual(page, 403, "where the page is not built, it is not found");
  assert.equal(await ask(`${url}${studio}/GetStudio`, "studio.example"), 200);
  assert.equal(await ask(`${collectorUrl}/v1/traces`, "collector.example"), 200, "exports come by any name");
});
