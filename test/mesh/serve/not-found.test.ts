import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport as createNodeGrpcWeb,
} from "@connectrpc/connect-node";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { JobService } from "../../../src/gen/throughline/v1/job_pb.js";
import { errorOf } from "../support/error-of.js";
import { connectHttp2, envelope, http1, http2Request, type RawRequest, type RawResponse } from "../support/raw-http.js";
import { serveEcho } from "../support/serve-echo.js";

/** Methods that nobody serves; the last is that of AWS's health check. */
const unknown = ["/throughline.v1.ImagePipelineService/Nope", "/acme.v1.Nothing/Do", "/AWS.ALB/healthcheck"];
const message = "unknown service or method";

suite("unknown RPC", () => {
  const types: readonly [type: string, status: number, answered: string, versions: string][] = [
    ["application/grpc", 200, "application/grpc", "both"],
    ["application/grpc+proto", 200, "application/grpc", "both"],
    ["application/grpc-web", 200, "application/grpc-web", "both"],
    ["application/grpc-web+proto", 200, "application/grpc-web+proto", "both"],
    ["application/grpc-web-text", 200, "application/grpc-web-text", "both"],
    ["application/json", 404, "application/json", "both"],
    ["application/json; charset=utf-8", 404, "application/json", "both"],
    ["application/proto", 404, "application/json", "both"],
    ["application/connect+json", 404, "application/json", "both"],
  ];
  for (const [type, status, answered] of types) {
    test(`${type} gets UNIMPLEMENTED with HTTP ${status}, in both versions of HTTP`, async (t) => {
      const { url } = await serveEcho(t);
      const session = connectHttp2(t, url);
      const request: RawRequest = { headers: { "content-type": type }, body: envelope("") };
      for (const path of unknown) {
        const responses: RawResponse[] = [
          await http1(url, path, request),
          await http2Request(session, path, { ...request, headers: { ...request.headers, te: "trailers" } }),
        ];
        for (const response of responses) {
          assert.deepEqual([response.status, response.headers["content-type"]], [status, answered]);
          const { code, rawMessage } = errorOf(response);
          assert.deepEqual([Code[code], rawMessage], ["Unimplemented", message]);
          assert.ok(status === 404 || response.body.length === 0);
        }
        assert.equal(responses[1]?.headersOnly, type.startsWith("application/grpc") && !type.includes("web"));
      }
    });
  }

  test("other requests get a plain 404", async (t) => {
    const { url } = await serveEcho(t);
    const session = connectHttp2(t, url);
    const requests: readonly [path: string, request: RawRequest][] = [
      ["/images/x.png", { method: "GET" }],
      ["/acme.v1.Nothing/Do", { method: "GET", headers: { "content-type": "application/grpc" } }],
      ["/acme.v1.Nothing/Do", {}],
      ["/acme.v1.Nothing/Do", { headers: { "content-type": "application/grpcx" } }],
      ["/v1/images", { headers: { "content-type": "application/json" }, body: "{}" }],
    ];
    for (const [path, request] of requests) {
      for (const response of [await http1(url, path, request), await http2Request(session, path, request)]) {
        assert.deepEqual([response.status, response.text], [404, "not found\n"]);
        assert.equal(response.headers["grpc-status"], undefined);
      }
    }
  });

  test("typed clients of every protocol see UNIMPLEMENTED", async (t) => {
    const { url: baseUrl } = await serveEcho(t);
    for (const transport of [
      createGrpcTransport({ baseUrl }),
      createNodeGrpcWeb({ baseUrl, httpVersion: "1.1" }),
      createNodeGrpcWeb({ baseUrl, httpVersion: "2" }),
      createGrpcWebTransport({ baseUrl }),
      createConnectTransport({ baseUrl, httpVersion: "1.1" }),
      createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: false }),
    ]) {
      const jobs = createClient(JobService, transport);
      const watch = async () => {
        for await (const _ of jobs.watchJob({ id: "x" })) {
          // None comes.
        }
      };
      for (const call of [() => jobs.getJob({ id: "x" }), watch]) {
        await assert.rejects(call, (error) => {
          assert.equal(Code[ConnectError.from(error).code], "Unimplemented");
          return true;
        });
      }
    }
  });
});
