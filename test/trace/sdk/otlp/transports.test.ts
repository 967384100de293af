import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createHttpServer, type RequestListener } from "node:http";
import { createServer } from "node:net";
import { type TestContext, test } from "node:test";
import grpc from "@grpc/grpc-js";
import type { ExporterConfig } from "../../../../src/trace/sdk/otlp/exporter-config.js";
import { createGrpcTransport } from "../../../../src/trace/sdk/otlp/grpc-transport.js";
import { createHttpTransport } from "../../../../src/trace/sdk/otlp/http-transport.js";
import type { OtlpTransport } from "../../../../src/trace/sdk/otlp/otlp-transport.js";
import { retryStatus } from "../../../support/retry-status.js";
import { steadyPort } from "../../../support/steady-port.js";

const config: Omit<ExporterConfig, "protocol" | "url"> = {
  signal: "traces",
  secure: false,
  headers: {},
  timeoutMs: 3000,
  compression: "none",
  tls: {},
};
const grpcTo = (port: number) => createGrpcTransport({ ...config, protocol: "grpc", url: `http://127.0.0.1:${port}` });
const httpTo = (port: number) =>
  createHttpTransport({ ...config, protocol: "http/protobuf", url: `http://127.0.0.1:${port}/v1/traces` });

const path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const bytes = (message: Buffer) => message;

/** A gRPC collector that answers as it is told. */
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
  const server = createHttpServer(answer);
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  server.listen(0, "127.0.0.1");
  return portOf(server);
}

async function portOf(server: ReturnType<typeof createServer>): Promise<number> {
  await once(server, "listening");
  const address = server.address();
  assert.ok(address !== null && typeof address === "object");
  return address.port;
}

const request = new Uint8Array([1, 2, 3]);

test("gRPC: the collector's RetryInfo reaches the queue, and the request is what was sent", async (t) => {
  const got: Buffer[] = [];
  const metadata = new grpc.Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(retryStatus(grpc.status.RESOURCE_EXHAUSTED, 1500)));
  const collector = await grpcCollector(0, (call, callback) => {
    got.push(call.request);
    callback(
      got.length === 1
        ? { code: grpc.status.RESOURCE_EXHAUSTED, details: "slow down", metadata }
        : got.length === 2
          ? { code: grpc.status.INVALID_ARGUMENT, details: "no" }
          : null,
      Buffer.from([0x0a, 0]),
    );
  });
  t.after(collector.stop);
  const transport = grpcTo(collector.port);
  t.after(() => transport.close());
  const verdicts = [];
  for (let i = 0; i < 3; i++) {
    verdicts.push(await transport.send(request, 10_000));
  }
  assert.deepEqual(verdicts, [
    { kind: "later", reason: "8 RESOURCE_EXHAUSTED: slow down", delayMs: 1500 },
    { kind: "refused", reason: "3 INVALID_ARGUMENT: no" },
    { kind: "taken", response: Buffer.from([0x0a, 0]) },
  ]);
  assert.deepEqual(got, [Buffer.from(request), Buffer.from(request), Buffer.from(request)]);
});

test("gRPC: the try after a failed connection connects at once", async (t) => {
  const port = await steadyPort();
  const transport = grpcTo(port);
  t.after(() => transport.close());
  for (let i = 0; i < 8; i++) {
    const verdict = await transport.send(request, 10_000);
    assert.ok(verdict.kind === "later" && verdict.reason.startsWith("14 UNAVAILABLE"), JSON.stringify(verdict));
  }
  const collector = await grpcCollector(port, (_call, callback) => callback(null, Buffer.alloc(0)));
  t.after(collector.stop);
  // A channel that keeps its own schedule would still refuse: eight failures make it wait for half a minute.
  assert.equal((await transport.send(request, 10_000)).kind, "taken");
});

test("HTTP: statuses, Retry-After and answers reach the queue", async (t) => {
  const answers = [
    { status: 503, headers: { "retry-after": "3" }, body: "busy" },
    { status: 400, headers: {}, body: "no" },
    { status: 200, headers: {}, body: "\n\0" },
  ];
  const got: (string | undefined)[] = [];
  const port = await httpCollector(t, (incoming, response) => {
    got.push(`${incoming.method} ${incoming.url} ${incoming.headers["content-type"]}`);
    const { status, headers, body } = answers.shift() ?? { status: 500, headers: {}, body: "" };
    incoming.resume().on("end", () => response.writeHead(status, headers).end(body));
  });
  const transport = httpTo(port);
  t.after(() => transport.close());
  const verdicts = [];
  for (let i = 0; i < 3; i++) {
    verdicts.push(await transport.send(request, 10_000));
  }
  assert.deepEqual(verdicts, [
    { kind: "later", reason: "HTTP status 503", delayMs: 3000 },
    { kind: "refused", reason: "HTTP status 400" },
    { kind: "taken", response: Buffer.from("\n\0") },
  ]);
  assert.deepEqual(got, Array(3).fill("POST /v1/traces application/x-protobuf"));
});

test("HTTP: an answer without end is cut off", async (t) => {
  const port = await httpCollector(t, (_incoming, response) => {
    response.on("error", () => {});
    const flood = () => {
      while (!response.destroyed && response.write(Buffer.alloc(65_536))) {
        // Until the socket is full.
      }
    };
    response.on("drain", flood);
    flood();
  });
  const transport = httpTo(port);
  t.after(() => transport.close());
  const verdict = await transport.send(request, 30_000);
  assert.deepEqual(verdict, { kind: "later", reason: "an answer of more than 1048576 bytes" });
});

for (const [name, to] of Object.entries<(port: number) => OtlpTransport>({ gRPC: grpcTo, HTTP: httpTo })) {
  test(`${name}: nobody there, and nobody who answers, are tried again`, async (t) => {
    const nobody = to(await steadyPort());
    t.after(() => nobody.close());
    const refused = await nobody.send(request, 10_000);
    assert.ok(refused.kind === "later" && /ECONNREFUSED/.test(refused.reason), JSON.stringify(refused));

    const mute = createServer((socket) => {
      socket.on("error", () => {});
      t.after(() => socket.destroy());
    });
    t.after(() => mute.close());
    mute.listen(0, "127.0.0.1");
    const transport = to(await portOf(mute));
    t.after(() => transport.close());
    const silent = await transport.send(request, 100);
    assert.ok(silent.kind === "later" && /DEADLINE_EXCEEDED|no answer within 100 ms/.test(silent.reason));
  });
}
