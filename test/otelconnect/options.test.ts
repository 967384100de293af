import assert from "node:assert/strict";
import { test } from "node:test";
import type { Interceptor } from "@connectrpc/connect";
import { createNoopMeter, ProxyTracerProvider } from "@opentelemetry/api";
import { createClientInterceptor, createServerInterceptor, networkPeer } from "../../src/otelconnect/otelconnect.js";
import { text } from "../support/dump-spans.js";
import { testTelemetry } from "../support/telemetry.js";
import { pingMesh } from "./ping-mesh.js";

test("filtered call is unchanged: no span and no header", async (t) => {
  let traceparent: string | null = "";
  const mesh = await pingMesh(
    t,
    {
      unary(_request, { requestHeader }) {
        traceparent = requestHeader.get("traceparent");
        return {};
      },
      async *serverStream() {
        yield {};
      },
    },
    {
      client: { filter: ({ method }) => method.name !== "Unary" },
      server: { filter: ({ method }) => method.name !== "Unary" },
    },
  );
  await mesh.client.unary({});
  assert.equal(traceparent, null);
  assert.deepEqual(mesh.collector.spans(), []);
  for await (const _message of mesh.client.serverStream({})) {
  }
  assert.equal(mesh.collector.spans().length, 2);
});

test("name, system, attributes, headers, trailers and the final hook apply to the span", async (t) => {
  const mesh = await pingMesh(
    t,
    {
      unary(_request, { responseHeader, responseTrailer }) {
        responseHeader.set("x-model", "emoji");
        responseHeader.set("x-hidden", "h");
        responseTrailer.set("x-cost", "3");
        return {};
      },
    },
    {
      client: { filter: () => false },
      server: {
        spanName: ({ method }) => `my ${method.name}`,
        system: "grpc",
        attributeFilter: (key, value) => key !== "server.address" && value !== "x",
        requestHeaders: ["X-Tenant", "x-absent", "data-bin"],
        responseHeaders: ["x-model"],
        responseTrailers: ["X-Cost"],
        beforeEnd: (span, { code, isError }) => span.setAttributes({ "my.code": `${code}`, "my.error": isError }),
      },
    },
  );
  await mesh.client.unary({}, { headers: { "x-tenant": "t1", "x-secret": "s", "data-bin": "AAE" } });
  assert.equal(
    await mesh.dump(1),
    text`
      my Unary SERVER callee
          my.code="undefined"
          my.error=false
          rpc.method="test.v1.PingService/Unary"
          rpc.request.header.data-bin=["AAE"]
          rpc.request.header.x-tenant=["t1"]
          rpc.response.header.x-model=["emoji"]
          rpc.response.trailer.x-cost=["3"]
          rpc.status_code="OK"
          rpc.system.name="grpc"
    `,
  );
});

test("headers and trailers of a failed call are recorded on the client span", async (t) => {
  const mesh = await pingMesh(
    t,
    {
      async *serverStream(_request, { responseHeader, responseTrailer }) {
        responseHeader.set("x-model", "emoji");
        responseTrailer.set("x-cost", "3");
        yield {};
        throw new Error("canary");
      },
    },
    {
      wire: "grpc",
      server: { filter: () => false },
      client: {
        attributeFilter: (key) => key.startsWith("rpc.response"),
        responseHeaders: ["x-model"],
        responseTrailers: ["x-cost"],
      },
    },
  );
  const read = async () => {
    for await (const _message of mesh.client.serverStream({})) {
    }
  };
  await assert.rejects(read);
  assert.match(await mesh.dump(1), /rpc.response.header.x-model=\["emoji"\]\n {4}rpc.response.trailer.x-cost=\["3"\]/);
});

test("each message is an event with its size when enabled", async (t) => {
  const messageEvents = { messageEvents: true, attributeFilter: () => false };
  const mesh = await pingMesh(
    t,
    {
      async *bidiStream(requests) {
        for await (const { value } of requests) {
          yield { value: value.repeat(2) };
        }
      },
      unary: () => ({ value: "abcd" }),
    },
    { client: messageEvents, server: messageEvents },
  );
  async function* writing() {
    yield { value: "a" };
    yield { value: "ab" };
  }
  for await (const _message of mesh.client.bidiStream(writing())) {
  }
  const event = (type: string, id: number, size: number) =>
    `event rpc.message rpc.message.id=${id} rpc.message.type="${type}" rpc.message.uncompressed_size=${size}`;
  const sorted = (dump: string) => dump.split("\n").sort().join("\n");
  const lines = (first: string, second: string, indent: string) =>
    [event(first, 1, 3), event(first, 2, 4), event(second, 1, 4), event(second, 2, 6)].map((line) => indent + line);
  assert.equal(
    sorted(await mesh.dump(2)),
    [
      "test.v1.PingService/BidiStream CLIENT caller",
      ...lines("SENT", "RECEIVED", "    "),
      "  test.v1.PingService/BidiStream SERVER callee",
      ...lines("RECEIVED", "SENT", "      "),
    ]
      .sort()
      .join("\n"),
  );
  mesh.collector.clear();
  await mesh.client.unary({ value: "a" });
  assert.equal(
    await mesh.dump(2),
    [
      "test.v1.PingService/Unary CLIENT caller",
      `    ${event("SENT", 1, 3)}`,
      `    ${event("RECEIVED", 1, 6)}`,
      "  test.v1.PingService/Unary SERVER callee",
      `      ${event("RECEIVED", 1, 3)}`,
      `      ${event("SENT", 1, 6)}`,
    ].join("\n"),
  );
});

test("network peer known to the server is recorded", async (t) => {
  const knows: Interceptor = (next) => (request) => {
    request.contextValues.set(networkPeer, { address: "10.0.0.7", port: 40_000 });
    return next(request);
  };
  const { tracer, collector } = testTelemetry(t, "callee");
  const mesh = await pingMesh(
    t,
    { unary: () => ({}) },
    {
      client: { filter: () => false },
      server: { filter: () => false },
      serverInterceptors: [knows, createServerInterceptor({ tracer })],
    },
  );
  await mesh.client.unary({});
  const { "network.peer.address": address, "network.peer.port": port } = collector.spans()[0]?.attributes ?? {};
  assert.deepEqual([address, port], ["10.0.0.7", 40_000]);
});

test("without tracer and meter, request and response objects pass unchanged", async (t) => {
  const off = { tracer: new ProxyTracerProvider().getTracer("none"), meter: createNoopMeter() };
  const seen: unknown[] = [];
  const look: Interceptor = (next) => async (request) => {
    seen.push(request);
    const response = await next(request);
    seen.push(response);
    return response;
  };
  const mesh = await pingMesh(
    t,
    {
      async *serverStream() {
        yield {};
      },
    },
    {
      client: { filter: () => false },
      server: { filter: () => false },
      clientInterceptors: [look, createClientInterceptor(off), look],
      serverInterceptors: [look, createServerInterceptor(off), look],
    },
  );
  for await (const _message of mesh.client.serverStream({})) {
  }
  assert.equal(seen.length, 8);
  assert.equal(new Set(seen).size, 4);
});
