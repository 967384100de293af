import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import type { SpanRecord } from "../../src/trace/span-record.js";
import { type ForeignPoint, metricsFromForeignRequest } from "./foreign-otlp-metrics.js";
import { spansFromForeignRequest } from "./foreign-otlp-spans.js";

/** One export as it came over the wire. */
export interface ReceivedExport {
  /** Metadata or HTTP headers, names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Path of the HTTP request or of the RPC. */
  readonly path: string;
  readonly spans: readonly SpanRecord[];
}

/** A receiver of traces and metrics that shares no code with ours: @grpc/grpc-js or node:http, decoded by protobufjs. */
export interface OtlpReceiver {
  /** What belongs into `OTEL_EXPORTER_OTLP_ENDPOINT`. */
  readonly endpoint: string;
  /** Exports of spans. */
  readonly exports: readonly ReceivedExport[];
  /** Data points of each export of metrics that came, taken or not. */
  readonly metrics: readonly (readonly ForeignPoint[])[];
  /** All spans so far, in the order in which they came. */
  spans(): SpanRecord[];
  /** Resolves when `enough` is true for all spans so far; rejects after `timeoutMs` (default 30,000) with what did come. */
  waitFor(enough: (spans: readonly SpanRecord[]) => boolean, timeoutMs?: number): Promise<SpanRecord[]>;
  /** The data points of the first metrics export for which `enough` is true; rejects after 30 s. */
  waitForMetrics(enough: (points: readonly ForeignPoint[]) => boolean): Promise<readonly ForeignPoint[]>;
  stop(): Promise<void>;
}

export interface OtlpReceiverOptions {
  /** `false`: it answers metrics with UNIMPLEMENTED or 404, like a traces-only backend. Default `true`. */
  readonly takesMetrics?: boolean;
  /** Default `grpc`. */
  readonly protocol?: "grpc" | "http/protobuf";
  /** Where one that was stopped begins again. Default: a free port. */
  readonly port?: number;
  /** Mutual TLS, PEM. Default: cleartext. */
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string };
}

/** Starts a receiver on the loopback interface. */
export async function startOtlpReceiver(options: OtlpReceiverOptions = {}): Promise<OtlpReceiver> {
  const inbox = createInbox(options.takesMetrics ?? true);
  const listen = options.protocol === "http/protobuf" ? listenHttp : listenGrpc;
  const server = await listen(inbox, options.tls, options.port ?? 0);
  const { receive: _, receiveMetrics: __, ...received } = inbox;
  return { ...server, ...received };
}

interface Inbox extends Omit<OtlpReceiver, "endpoint" | "stop"> {
  receive(received: ReceivedExport): void;
  /** Takes an `ExportMetricsServiceRequest`. @returns whether it does. */
  receiveMetrics(request: object): boolean;
}

function createInbox(takesMetrics: boolean): Inbox {
  const metrics: ForeignPoint[][] = [];
  const exports: ReceivedExport[] = [];
  const listeners = new Set<() => void>();
  const spans = () => exports.flatMap((received) => received.spans);
  const tell = () => {
    for (const listener of [...listeners]) {
      listener();
    }
  };
  return {
    exports,
    metrics,
    receiveMetrics(request) {
      metrics.push(metricsFromForeignRequest(request));
      tell();
      return takesMetrics;
    },
    waitForMetrics(enough) {
      return new Promise((resolve, reject) => {
        const timer = setTimeout(
          () => reject(new Error(`of ${metrics.length} exports of metrics none was it`)),
          30_000,
        );
        const check = () => {
          const found = metrics.find(enough);
          if (found !== undefined) {
            clearTimeout(timer);
            listeners.delete(check);
            resolve(found);
          }
        };
        listeners.add(check);
        check();
      });
    },
    spans,
    receive(received) {
      exports.push(received);
      tell();
    },
    waitFor(enough, timeoutMs = 30_000) {
      return new Promise((resolve, reject) => {
        const settle = () => {
          clearTimeout(timer);
          listeners.delete(check);
        };
        const timer = setTimeout(() => {
          settle();
          reject(new Error(`the receiver waited ${timeoutMs} ms and has [${spans().map((span) => span.name)}]`));
        }, timeoutMs);
        const check = () => {
          const received = spans();
          if (!enough(received)) {
            return;
          }
          settle();
          resolve(received);
        };
        listeners.add(check);
        check();
      });
    },
  };
}

function loadExportMethod(file: string, service: string) {
  const definition = loadSync(`opentelemetry/proto/collector/${file}`, {
    includeDirs: [fileURLToPath(new URL("../../third_party/proto", import.meta.url))],
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  })[`opentelemetry.proto.collector.${service}`];
  if (definition === undefined || "format" in definition) {
    throw new Error(`${service} is not in third_party/proto`);
  }
  const { Export: method } = definition;
  if (method === undefined) {
    throw new Error(`${service} has no Export`);
  }
  return method;
}

const exportMethod = loadExportMethod("trace/v1/trace_service.proto", "trace.v1.TraceService");
const exportMetricsMethod = loadExportMethod("metrics/v1/metrics_service.proto", "metrics.v1.MetricsService");

async function listenGrpc(
  inbox: Inbox,
  tls: OtlpReceiverOptions["tls"],
  wantedPort: number,
): Promise<Pick<OtlpReceiver, "endpoint" | "stop">> {
  const server = new grpc.Server();
  const handleExport: grpc.handleUnaryCall<object, object> = (call, callback) => {
    const headers = Object.entries(call.metadata.getMap()).map(([name, value]) => [name, String(value)]);
    inbox.receive({
      headers: Object.fromEntries(headers),
      path: call.getPath(),
      spans: spansFromForeignRequest(call.request),
    });
    callback(null, {});
  };
  server.addService({ Export: exportMethod }, { Export: handleExport });
  const handleMetrics: grpc.handleUnaryCall<object, object> = (call, callback) =>
    inbox.receiveMetrics(call.request)
      ? callback(null, {})
      : callback({ code: grpc.status.UNIMPLEMENTED, details: "unknown service" });
  server.addService({ Export: exportMetricsMethod }, { Export: handleMetrics });
  const credentials = tls
    ? grpc.ServerCredentials.createSsl(
        Buffer.from(tls.ca),
        [{ cert_chain: Buffer.from(tls.cert), private_key: Buffer.from(tls.key) }],
        true,
      )
    : grpc.ServerCredentials.createInsecure();
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${wantedPort}`, credentials, (error, bound) => {
      if (error === null) {
        resolve(bound);
      } else {
        reject(error);
      }
    });
  });
  return {
    endpoint: `${tls ? "https" : "http"}://127.0.0.1:${port}`,
    async stop() {
      server.forceShutdown();
    },
  };
}

async function listenHttp(
  inbox: Inbox,
  tls: OtlpReceiverOptions["tls"],
  wantedPort: number,
): Promise<Pick<OtlpReceiver, "endpoint" | "stop">> {
  const handle = async (request: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) {
      chunks.push(chunk);
    }
    const body = Buffer.concat(chunks);
    const plain = request.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body;
    if (request.url === "/v1/metrics") {
      const isTaken = inbox.receiveMetrics(exportMetricsMethod.requestDeserialize(plain));
      response.writeHead(isTaken ? 200 : 404, { "content-type": "application/x-protobuf" }).end();
      return;
    }
    const message = exportMethod.requestDeserialize(plain);
    const headers = Object.entries(request.headers).map(([name, value]) => [name, String(value)]);
    inbox.receive({
      headers: Object.fromEntries(headers),
      path: request.url ?? "",
      spans: spansFromForeignRequest(message),
    });
    response.writeHead(200, { "content-type": "application/x-protobuf" }).end();
  };
  const listener = (request: IncomingMessage, response: ServerResponse) => {
    handle(request, response).catch(() => response.writeHead(400).end());
  };
  const server = tls
    ? createSecureServer({ ...tls, requestCert: true, rejectUnauthorized: true }, listener)
    : createServer(listener);
  server.listen(wantedPort, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") {
    throw new Error("no port");
  }
  return {
    endpoint: `${tls ? "https" : "http"}://127.0.0.1:${address.port}`,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
