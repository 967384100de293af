import assert from "node:assert/strict";
import { createServer as createHttpServer, type RequestListener } from "node:http";
import { createServer } from "node:net";
import { type TestContext, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { AnySchema, anyPack } from "@bufbuild/protobuf/wkt";
import grpc from "@grpc/grpc-js";
import { createConnect, type OtlpConnection, outcomeOf } from "../../../src/trace/telemetry/otlp-connection.js";
import type { OtlpSettings } from "../../../src/trace/telemetry/otlp-settings.js";
import type { tracing } from "../../../src/trace/telemetry/sdk.js";
import { listenOnLoopback } from "../../support/listen-on-loopback.js";
import { readableSpans, spanNames } from "../../support/readable-spans.js";
import { retryStatus } from "../../support/retry-status.js";
import { steadyPort } from "../../support/steady-port.js";

const settings: Omit<OtlpSettings, "protocol" | "url"> = {
  signal: "traces",
  secure: false,
  headers: {},
  timeoutMs: 3000,
  compression: "none",
  tls: {},
};
type SpanConnection = OtlpConnection<tracing.ReadableSpan[]>;
const grpcTo = (port: number) =>
  createConnect("traces", { ...settings, protocol: "grpc", url: `http://127.0.0.1:${port}` });
const httpTo = (port: number) =>
  createConnect("traces", { ...settings, protocol: "http/protobuf", url: `http://127.0.0.1:${port}/v1/traces` });
const batch = readableSpans("a span");

/** One that is closed after the test. */
function closedAfter(t: TestContext, connection: SpanConnection): SpanConnection {
  t.after(connection.close);
  return connection;
}

const path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const bytes = (message: Buffer) => message;

/** A gRPC collector with scripted responses. */
async function grpcCollector(port: number, answer: grpc.handleUnaryCall<Buffer, Buffer>) {
  const server = new grpc.Server();
  const method = {
    path,
    requestStream: false,
    responseStream: false,
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  };
  server.addService({ Export: method }, { Export: answer });
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error, at) =>
      error ? reject(error) : resolve(at),
    );
  });
  return { port: bound, stop: () => server.forceShutdown() };
}

async function httpCollector(t: TestContext, answer: RequestListener) {
  return (await listenOnLoopback(t, createHttpServer(answer))).port;
}

test("gRPC: RetryInfo, rejections and partial successes of the collector are returned", async (t) => {
  const names: string[][] = [];
  const agents: unknown[] = [];
  const metadata = new grpc.Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(retryStatus(grpc.status.RESOURCE_EXHAUSTED, 1500)));
  const answers: Parameters<grpc.sendUnaryData<Buffer>>[] = [
    [{ code: grpc.status.RESOURCE_EXHAUSTED, details: "slow down", metadata }],
    [{ code: grpc.status.INVALID_ARGUMENT, details: "no" }],
    // partial_success { rejected_spans: 2, error_message: "old" }
    [null, Buffer.from([0x0a, 7, 0x08, 2, 0x12, 3, ...Buffer.from("old")])],
    // partial_success { error_message: "slow down" }
    [null, Buffer.from([0x0a, 11, 0x12, 9, ...Buffer.from("slow down")])],
    [null, Buffer.from([0x0a, 0])],
    [null, Buffer.from("<html>")],
  ];
  const count = answers.length;
  const collector = await grpcCollector(0, (call, callback) => {
    names.push(spanNames(call.request));
    agents.push(call.metadata.get("user-agent")[0]);
    callback(...(answers.shift() ?? [null]));
  });
  t.after(collector.stop);
  const connection = closedAfter(t, grpcTo(collector.port)(10_000));
  const outcomes = [];
  for (let i = 0; i < count; i++) {
    outcomes.push(await connection.export(batch));
  }
  const delivered = { kind: "delivered", rejected: 0, remark: "" };
  assert.deepEqual(outcomes, [
    { kind: "retry", reason: "8 RESOURCE_EXHAUSTED: slow down", delayMs: 1500 },
    { kind: "final", cause: "rejected", reason: "3 INVALID_ARGUMENT: no" },
    { ...delivered, rejected: 2, remark: "old" },
    { ...delivered, remark: "slow down" },
    delivered,
    delivered,
  ]);
  assert.deepEqual(names, Array(count).fill(["a span"]));
  assert.match(String(agents[0]), /^throughline .*OTel-OTLP-Exporter-JavaScript/);
});

test("gRPC: attempt after a failed connection connects at once", async (t) => {
  const port = await steadyPort();
  const connect = grpcTo(port);
  for (let i = 0; i < 8; i++) {
    const connection = connect(10_000);
    const outcome = await connection.export(batch);
    connection.close();
    assert.ok(outcome.kind === "retry" && outcome.reason.startsWith("14 UNAVAILABLE"), JSON.stringify(outcome));
  }
  const collector = await grpcCollector(port, (_call, callback) => callback(null, Buffer.alloc(0)));
  t.after(collector.stop);
  // A channel that keeps its own schedule would still fail: eight failures make it wait for half a minute.
  assert.equal((await closedAfter(t, connect(10_000)).export(batch)).kind, "delivered");
});

test("HTTP: statuses and partial successes are returned", async (t) => {
  const answers: { status: number; headers?: Record<string, string>; body?: Uint8Array }[] = [
    { status: 400 },
    { status: 500 },
    // Longer than the time-out: not honoured, and nothing waits for it here.
    { status: 503, headers: { "retry-after": "30" } },
    { status: 200, body: Buffer.from([0x0a, 7, 0x08, 2, 0x12, 3, ...Buffer.from("old")]) },
    { status: 200, body: Buffer.from("<html>") },
  ];
  const count = answers.length;
  const got: (string | undefined)[] = [];
  const port = await httpCollector(t, (incoming, response) => {
    got.push(`${incoming.method} ${incoming.url} ${incoming.headers["content-type"]}`);
    const { status, headers = {}, body = "" } = answers.shift() ?? { status: 500 };
    incoming.resume().on("end", () => response.writeHead(status, headers).end(body));
  });
  const connection = closedAfter(t, httpTo(port)(10_000));
  const outcomes = [];
  for (let i = 0; i < count; i++) {
    outcomes.push(await connection.export(batch));
  }
  assert.deepEqual(outcomes, [
    { kind: "final", cause: "rejected", reason: "HTTP status 400 Bad Request" },
    { kind: "final", cause: "rejected", reason: "HTTP status 500 Internal Server Error" },
    { kind: "retry", reason: "Export failed with retryable status" },
    { kind: "delivered", rejected: 2, remark: "old" },
    { kind: "delivered", rejected: 0, remark: "" },
  ]);
  assert.deepEqual(got, Array(count).fill("POST /v1/traces application/x-protobuf"));
});

test("HTTP: official exporter follows a Retry-After within the timeout", async (t) => {
  let tries = 0;
  const port = await httpCollector(t, (incoming, response) => {
    tries++;
    incoming
      .resume()
      .on("end", () => (tries === 1 ? response.writeHead(503, { "retry-after": "1" }).end() : response.end()));
  });
  const outcome = await closedAfter(t, httpTo(port)(10_000)).export(batch);
  assert.deepEqual([outcome.kind, tries], ["delivered", 2]);
});

test("HTTP: endless response is aborted", async (t) => {
  const port = await httpCollector(t, (incoming, response) => {
    const drip = setInterval(() => response.write("x"), 20);
    response.on("close", () => clearInterval(drip));
    incoming.resume();
  });
  const connection = httpTo(port)(200);
  assert.deepEqual(await connection.export(batch), { kind: "retry", reason: "no answer within 250 ms" });
  connection.close();
});

test("HTTP: official exporter's retries do not reopen a closed connection", async (t) => {
  let tries = 0;
  const port = await httpCollector(t, (incoming, response) => {
    tries++;
    incoming.resume().on("end", () => response.writeHead(503, { "retry-after": "1" }).end(() => connection.close()));
  });
  const connection = httpTo(port)(10_000);
  const outcome = await connection.export(batch);
  assert.deepEqual([outcome, tries], [{ kind: "retry", reason: "the connection is closed" }, 1]);
});

for (const [name, to] of Object.entries({ gRPC: grpcTo, HTTP: httpTo })) {
  test(`${name}: outcome is retry when the collector is down or does not answer`, async (t) => {
    const rejected = await closedAfter(t, to(await steadyPort())(700)).export(batch);
    assert.ok(rejected.kind === "retry" && /ECONNREFUSED/.test(rejected.reason), JSON.stringify(rejected));

    const mute = await listenOnLoopback(t, createServer());
    const silent = await closedAfter(t, to(mute.port)(100)).export(batch);
    assert.ok(
      silent.kind === "retry" && /DEADLINE_EXCEEDED|timed out|no answer within/.test(silent.reason),
      JSON.stringify(silent),
    );
  });
}

function failure(code: number, details?: Uint8Array): grpc.ServiceError {
  const metadata = new grpc.Metadata();
  if (details) {
    metadata.set("grpc-status-details-bin", Buffer.from(details));
  }
  return Object.assign(new Error(`${code} said`), { code, details: "said", metadata });
}

const retryable = ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"];

for (const [name, code] of Object.entries(grpc.status)) {
  if (typeof code === "number" && name !== "OK") {
    test(`gRPC ${name} ${retryable.includes(name) ? "is retried" : "is not retried"}`, () => {
      const expected = retryable.includes(name) ? { kind: "retry" } : { kind: "final", cause: "rejected" };
      assert.deepEqual(outcomeOf(1, failure(code)), { ...expected, reason: `${code} said` });
    });
  }
}

test("RESOURCE_EXHAUSTED is retried only with RetryInfo", () => {
  const { RESOURCE_EXHAUSTED, UNAVAILABLE, INVALID_ARGUMENT } = grpc.status;
  const judged = (code: number, delayMs: number) => outcomeOf(1, failure(code, retryStatus(code, delayMs)));
  const later = { kind: "retry", reason: "8 said", delayMs: 2500 };
  assert.deepEqual(judged(RESOURCE_EXHAUSTED, 2500), later);
  assert.deepEqual(judged(RESOURCE_EXHAUSTED, 0), { ...later, delayMs: 0 });
  assert.deepEqual(judged(UNAVAILABLE, 90_000), { kind: "retry", reason: "14 said", delayMs: 90_000 });
  assert.deepEqual(judged(INVALID_ARGUMENT, 1000), { kind: "final", cause: "rejected", reason: "3 said" });
});

test("unreadable status details leave the decision to the code", () => {
  const { RESOURCE_EXHAUSTED, UNAVAILABLE } = grpc.status;
  const rubbish = Buffer.from([0xff, 0xff, 0xff]);
  assert.equal(outcomeOf(1, failure(UNAVAILABLE, rubbish)).kind, "retry");
  assert.equal(outcomeOf(1, failure(RESOURCE_EXHAUSTED, rubbish)).kind, "final");
  const other = toBinary(AnySchema, anyPack(AnySchema, create(AnySchema)));
  assert.equal(outcomeOf(1, failure(RESOURCE_EXHAUSTED, other)).kind, "final");
});
