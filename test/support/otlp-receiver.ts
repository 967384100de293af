import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import type { SpanRecord } from "../../src/trace/span-record.js";
import { spansFromForeignRequest } from "./foreign-otlp-spans.js";

/** One export as it came over the wire. */
export interface ReceivedExport {
  /** Metadata or HTTP headers, names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Path of the HTTP request or of the RPC. */
  readonly path: string;
  readonly spans: readonly SpanRecord[];
}

/** A receiver of traces that shares no code with ours: @grpc/grpc-js or node:http, decoded by protobufjs. */
export interface OtlpReceiver {
  /** What belongs into `OTEL_EXPORTER_OTLP_ENDPOINT`. */
  readonly endpoint: string;
  readonly exports: readonly ReceivedExport[];
  /** All spans so far, in the order in which they came. */
  spans(): SpanRecord[];
  /** Settles once `enough` says yes about all spans so far; rejects after `timeoutMs` (default 30,000) with what did come. */
  waitFor(enough: (spans: readonly SpanRecord[]) => boolean, timeoutMs?: number): Promise<SpanRecord[]>;
  stop(): Promise<void>;
}

export interface OtlpReceiverOptions {
  /** Default `grpc`. */
  readonly protocol?: "grpc" | "http/protobuf";
  /** Where one that was stopped begins again. Default: a free port. */
  readonly port?: number;
  /** Mutual TLS, PEM. Default: cleartext. */
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string };
}

/** Starts a receiver on the loopback interface. */
export async function startOtlpReceiver(options: OtlpReceiverOptions = {}): Promise<OtlpReceiver> {
  const inbox = createInbox();
  const listen = options.protocol === "http/protobuf" ? listenHttp : listenGrpc;
  const server = await listen(inbox, options.tls, options.port ?? 0);
  return { ...server, exports: inbox.exports, spans: inbox.spans, waitFor: inbox.waitFor };
}

interface Inbox extends Pick<OtlpReceiver, "exports" | "spans" | "waitFor"> {
  receive(received: ReceivedExport): void;
}

function createInbox(): Inbox {
  const exports: ReceivedExport[] = [];
  const listeners = new Set<() => void>();
  const spans = () => exports.flatMap((received) => received.spans);
  return {
    exports,
    spans,
    receive(received) {
      exports.push(received);
      for (const listener of [...listeners]) {
        listener();
      }
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

const exportMethod = (() => {
  const definition = loadSync("opentelemetry/proto/collector/trace/v1/trace_service.proto", {
    includeDirs: [fileURLToPath(new URL("../../third_party/proto", import.meta.url))],
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  })["opentelemetry.proto.collector.trace.v1.TraceService"];
  if (definition === undefined || "format" in definition) {
    throw new Error("TraceService is not in third_party/proto");
  }
  const { Export: method } = definition;
  if (method === undefined) {
    throw new Error("TraceService has no Export");
  }
  return method;
})();

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
    const message = exportMethod.requestDeserialize(
      request.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body,
    );
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
