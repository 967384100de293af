import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import { connect } from "node:net";
import { type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import { fromBinary } from "@bufbuild/protobuf";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { ROOT_CONTEXT, SpanKind } from "@opentelemetry/api";
import { ExportTraceServiceResponseSchema } from "../../src/gen/opentelemetry/proto/collector/trace/v1/trace_service_pb.js";
import { createCollector } from "../../src/studio/collector.js";
import { traceIdOf, withSpan } from "../../src/trace/span-scope.js";
import { createTelemetry } from "../../src/trace/telemetry/telemetry.js";
import { dumpSpans, text } from "../support/dump-spans.js";
import { listenOnLoopback } from "../support/listen-on-loopback.js";

const soon = () => AbortSignal.timeout(30_000);

/** A collector on a real port: gRPC, or HTTP/1.1. */
async function startCollector(t: TestContext, protocol: "grpc" | "http/protobuf", maxBodyBytes?: number) {
  const collector = createCollector(maxBodyBytes === undefined ? {} : { maxBodyBytes });
  const server =
    protocol === "grpc"
      ? createHttp2Server(connectNodeAdapter({ routes: collector.routes }))
      : createServer(collector.httpHandler);
  return { ...collector, ...(await listenOnLoopback(t, server)) };
}

for (const protocol of ["grpc", "http/protobuf"] as const) {
  for (const compression of ["none", "gzip"]) {
    test(`collector stores SDK exports: ${protocol}, compression ${compression}`, async (t) => {
      const { url, store } = await startCollector(t, protocol);
      const telemetry = createTelemetry({
        serviceName: "image-pipeline",
        environment: {
          OTEL_EXPORTER_OTLP_ENDPOINT: url,
          OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
          OTEL_EXPORTER_OTLP_COMPRESSION: compression,
          OTEL_METRICS_EXPORTER: "none",
        },
        log: { warn: (fields, message) => assert.fail(`${message} ${JSON.stringify(fields)}`) },
      });
      const link = { traceId: "1".repeat(32), spanId: "2".repeat(16), traceFlags: 1 };
      const options = { parent: ROOT_CONTEXT, kind: SpanKind.SERVER, links: [{ context: link }] };
      const traceId = await withSpan(telemetry.tracer, "image-pipeline", options, async (_span, scope) => {
        const failing = withSpan(telemetry.tracer, "preprocess-prompt", { parent: scope }, (span) => {
          span.setAttributes({ "prompt.length": 14, share: 0.5, ok: true, sizes: [1, 2], names: ["a"] });
          throw new TypeError("text");
        });
        await assert.rejects(failing);
        return traceIdOf(scope);
      });
      await telemetry.shutdown();
      const spans = await store.waitForTrace(traceId, (received) => received.length === 2, soon());
      assert.equal(
        dumpSpans(spans),
        text`
          image-pipeline SERVER image-pipeline
              link ${link.traceId}-${link.spanId}
            preprocess-prompt INTERNAL image-pipeline ERROR "INTERNAL"
                names=["a"]
                ok=true
                prompt.length=14
                share=0.5
                sizes=[1,2]
                event exception exception.type="TypeError"
        `,
      );
      const [first] = spans;
      assert.ok(first && first.startUnixNano > 1_700_000_000_000_000_000n && first.endUnixNano >= first.startUnixNano);
    });
  }
}

const traceId = "0af7651916cd43dd8448eb211c80319c";
const span = {
  traceId,
  spanId: "b7ad6b7169203331",
  name: "inference",
  kind: 2,
  startTimeUnixNano: "1760000000000000001",
  endTimeUnixNano: "1760000000000000002",
  attributes: [
    { key: "big", value: { intValue: "9007199254740993" } },
    { key: "mixed", value: { arrayValue: { values: [{ intValue: 1 }, { stringValue: "a" }] } } },
    { key: "nested", value: { kvlistValue: { values: [{ key: "a", value: { boolValue: true } }] } } },
    { key: "bytes", value: { bytesValue: "AQI=" } },
    { key: "nothing" },
  ],
  futureField: 1,
};
const exportOf = (...spans: unknown[]) => ({
  resourceSpans: [
    {
      resource: { attributes: [{ key: "service.name", value: { stringValue: "worker" } }] },
      scopeSpans: [{ scope: { name: "x" }, spans }],
    },
  ],
});

function post(
  url: string,
  body: string | Uint8Array,
  headers: Record<string, string> = { "content-type": "application/json" },
) {
  return fetch(`${url}/v1/traces`, { method: "POST", body, headers });
}

test("collector accepts OTLP JSON with hexadecimal ids", async (t) => {
  const { url, store } = await startCollector(t, "http/protobuf");
  for (const body of [JSON.stringify(exportOf(span)), gzipSync(JSON.stringify(exportOf(span)))]) {
    const response = await post(url, body, {
      "content-type": "application/json; charset=utf-8",
      ...(typeof body === "string" ? {} : { "content-encoding": "gzip" }),
    });
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-type"), "application/json");
    assert.deepEqual(await response.json(), {});
  }
  const spans = store.spansOf(traceId);
  assert.equal(
    dumpSpans(spans),
    text`
      inference SERVER worker
          big="9007199254740993"
          bytes="AQI="
          mixed=${JSON.stringify('[1,"a"]')}
          nested=${JSON.stringify('{"a":true}')}
          nothing=""
    `,
  );
  assert.equal(spans[0]?.startUnixNano, 1_760_000_000_000_000_001n);
});

test("collector drops spans without valid ids and reports their number", async (t) => {
  const { url, store } = await startCollector(t, "http/protobuf");
  const broken = [
    { ...span, traceId: "" },
    { ...span, spanId: "00".repeat(8) },
    { ...span, traceId: "abcd" },
  ];
  const response = await post(url, JSON.stringify(exportOf(span, ...broken)));
  assert.deepEqual(await response.json(), {
    partialSuccess: { rejectedSpans: "3", errorMessage: "spans without valid ids" },
  });
  assert.equal(store.spansOf(traceId).length, 1);
  assert.deepEqual(store.traceIds(), [traceId]);
});

test("collector cuts long names, texts and lists", async (t) => {
  const { url, store } = await startCollector(t, "http/protobuf");
  const long = "x".repeat(20_000);
  const text = { stringValue: long };
  const attributes = [
    { key: long, value: text },
    { key: "texts", value: { arrayValue: { values: [text, text] } } },
    { key: "numbers", value: { arrayValue: { values: Array.from({ length: 200 }, () => ({ intValue: 1 })) } } },
    ...Array.from({ length: 200 }, (_, i) => ({ key: `key ${i}`, value: { intValue: i } })),
  ];
  const events = Array.from({ length: 200 }, () => ({ name: long, attributes: [{ key: "text", value: text }] }));
  const status = { code: 2, message: long };
  const response = await post(url, JSON.stringify(exportOf({ ...span, name: long, attributes, events, status })));
  assert.equal(response.status, 200);
  const [stored] = store.spansOf(traceId);
  assert.ok(stored);
  const name = `${"x".repeat(1023)}…`;
  const cut = `${"x".repeat(16_383)}…`;
  assert.equal(stored.name, name);
  assert.equal(stored.status.message, name);
  assert.equal(Object.keys(stored.attributes).length, 128);
  assert.equal(stored.attributes[name], cut);
  assert.deepEqual(stored.attributes["texts"], [cut, cut]);
  assert.deepEqual(stored.attributes["numbers"], new Array(128).fill(1));
  assert.equal(stored.events.length, 128);
  assert.deepEqual(stored.events[0], { name, timeUnixNano: 0n, attributes: { text: cut } });
});

const protobufType = { "content-type": "application/x-protobuf" };
const jsonType = { "content-type": "application/json" };

for (const { what, body, headers, status } of [
  { what: "invalid JSON", body: "{", headers: jsonType, status: 400 },
  { what: "JSON of another message", body: '{"resourceSpans": 5}', headers: jsonType, status: 400 },
  {
    what: "ids in base64",
    body: JSON.stringify(exportOf({ ...span, traceId: "CvdlGRbNQ92ESOshHIAxnA==" })),
    headers: jsonType,
    status: 400,
  },
  { what: "JSON nested without end", body: "[".repeat(500_000), headers: jsonType, status: 400 },
  { what: "bytes that are no message", body: Buffer.from([0xff, 0xff, 0xff]), headers: protobufType, status: 400 },
  { what: "invalid gzip", body: "{}", headers: { ...jsonType, "content-encoding": "gzip" }, status: 400 },
  { what: "another compression", body: "{}", headers: { ...jsonType, "content-encoding": "br" }, status: 415 },
  { what: "another content type", body: "{}", headers: { "content-type": "text/plain" }, status: 415 },
  { what: "a body over the size limit", body: " ".repeat(1_000_001), headers: jsonType, status: 413 },
  {
    what: "a body over the size limit when unzipped",
    body: gzipSync(" ".repeat(1_000_001)),
    headers: { ...jsonType, "content-encoding": "gzip" },
    status: 413,
  },
]) {
  test(`collector rejects ${what}, and accepts the next export`, async (t) => {
    const { url, store } = await startCollector(t, "http/protobuf", 1_000_000);
    const response = await post(url, body, headers);
    assert.equal(response.status, status);
    const answer = Buffer.from(await response.arrayBuffer());
    if (response.headers.get("content-type") === "application/json") {
      assert.equal(typeof JSON.parse(`${answer}`).message, "string");
    } else {
      assert.ok(answer.length > 0);
    }
    assert.deepEqual(store.traceIds(), []);
    assert.equal((await post(url, JSON.stringify(exportOf(span)))).status, 200);
  });
}

test("empty Protobuf export is answered in Protobuf", async (t) => {
  const { url } = await startCollector(t, "http/protobuf");
  const response = await post(url, Buffer.alloc(0), protobufType);
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "application/x-protobuf");
  const message = fromBinary(ExportTraceServiceResponseSchema, new Uint8Array(await response.arrayBuffer()));
  assert.equal(message.partialSuccess, undefined);
});

test("collector rejects other paths and methods", async (t) => {
  const { url } = await startCollector(t, "http/protobuf");
  assert.equal((await fetch(`${url}/v1/profiles`, { method: "POST", body: "{}", headers: jsonType })).status, 404);
  assert.equal((await fetch(url)).status, 404);
  assert.equal((await fetch(`${url}/v1/traces`)).status, 405);
});

test("client that disconnects during a request does not affect the next one", async (t) => {
  const { url } = await startCollector(t, "http/protobuf");
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  socket.write("POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{");
  await once(socket, "ready");
  socket.destroy();
  await once(socket, "close");
  assert.equal((await post(url, JSON.stringify(exportOf(span)))).status, 200);
});
