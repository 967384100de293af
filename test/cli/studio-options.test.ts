import assert from "node:assert/strict";
import { once } from "node:events";
import * as http from "node:http";
import * as http2 from "node:http2";
import { test } from "node:test";
import { CliError } from "../../src/cli/errors.js";
import { parseOptions } from "../../src/cli/options/option.js";
import { studioOptions } from "../../src/cli/options/server-options.js";
import { studioOf } from "../../src/cli/services/studio.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { startCommand } from "./support/run-command.js";
import { withVariables } from "./support/run-in-process.js";

const valuesOf = (variables: Record<string, string>) => withVariables(variables, () => parseOptions(studioOptions, []));
const parts = {
  directory: createAppDirectory({ apps: { "a/b": { target: "localhost:1" } } }),
  hasJobs: false,
  hosts: () => true,
  logger: { warn() {} },
};

test("studio is off by default", async () => {
  assert.equal(await studioOf(valuesOf({}), parts), undefined);
  assert.ok(await studioOf(valuesOf({ THROUGHLINE_STUDIO: "true" }), parts));
});

test("trace URL needs {traceId} after the host and http or https", () => {
  for (const value of [
    "http://localhost:16686/trace/{traceId}",
    "https://ui.example/explore?trace={traceId}&x=1",
    "https://ui.example/#/{traceId}",
  ]) {
    assert.equal(valuesOf({ THROUGHLINE_TRACE_URL: value }).traceUrl, value);
  }
  for (const value of [
    "http://localhost/trace",
    "javascript:alert('{traceId}')",
    "http://{traceId}.example/",
    "{traceId}",
  ]) {
    assert.throws(
      () => valuesOf({ THROUGHLINE_TRACE_URL: value }),
      /THROUGHLINE_TRACE_URL \(--trace-url\) must be an http:\/\//,
    );
  }
});

test("studio options are rejected when the studio is off or when they exclude each other", async () => {
  for (const environment of [
    { THROUGHLINE_STUDIO_COLLECTOR: "http://localhost:4317" },
    { THROUGHLINE_TRACE_URL: "http://localhost/{traceId}" },
    { THROUGHLINE_STUDIO: "true", THROUGHLINE_TRACE_BACKEND: "Jaeger" },
  ]) {
    await assert.rejects(studioOf(valuesOf(environment), parts), CliError);
  }
});

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

test("page that uses DNS rebinding to reach loopback reads nothing from the studio, and cannot call the pipeline", async (t) => {
  const collector = startCommand(t, ["collector", "--port", "0"]);
  const [, collectorUrl = ""] = await collector.waitFor(readyAt);
  const pipeline = startCommand(t, [
    ...["pipeline", "--port", "0", "--worker", "acme/worker=127.0.0.1:1", "--public-url", "https://studio.example"],
    ...["--openai", "--cors-origin", "http://allowed.example"],
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

  const call = async (path: string, origin: string | undefined) => {
    const headers = { "content-type": "application/json", ...(origin !== undefined && { origin }) };
    return (await fetch(`${url}${path}`, { method: "POST", headers, body: "{}" })).status;
  };
  for (const path of ["/throughline.v1.ImagePipelineService/Generate", "/v1/images/generations"]) {
    for (const origin of ["http://evil.example:50051", "null"]) {
      assert.equal(await call(path, origin), 403, `${path} from a page of ${origin}`);
    }
    for (const origin of [undefined, "http://127.0.0.1:50051", "https://studio.example", "http://allowed.example"]) {
      assert.equal(await call(path, origin), 400, `${path} from ${origin}: the request has no prompt`);
    }
  }
  for (const target of [
    '"method":"throughline.studio.v1.StudioService/GetStudio"',
    '"method":"throughline.v1.ImagePipelineService/Generate"',
    '"front":"openai"',
    '"route":"/"',
  ]) {
    await pipeline.waitFor(new RegExp(`"access.rejected","reason":"foreign_host",.*${target}`));
  }
  await collector.waitFor(/"access.rejected","reason":"foreign_host",.*"route":"http"/);
});
