import grpc from "@grpc/grpc-js";
import { checkHeaders } from "./check-headers.js";
import { createCollectorTls } from "./collector-tls.js";
import { judgeGrpcFailure } from "./export-verdict.js";
import type { ExporterConfig, Signal } from "./exporter-config.js";
import { type OtlpTransport, userAgent } from "./otlp-transport.js";

const methods = {
  traces: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
  metrics: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
  logs: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
} as const satisfies Record<Signal, string>;

/**
 * OTLP/gRPC. OpenTelemetry's own exporter is not used, because it drops the details of a status and tries once.
 *
 * @throws TelemetryConfigError when a header cannot be sent.
 */
export function createGrpcTransport(config: ExporterConfig): OtlpTransport {
  const { signal, url, secure, headers, compression, tls } = config;
  const metadata = new grpc.Metadata();
  checkHeaders(headers, (name, value) => metadata.set(name, value));
  const collectorTls = secure ? createCollectorTls(tls) : undefined;
  const credentials = () =>
    collectorTls === undefined
      ? grpc.credentials.createInsecure()
      : grpc.credentials.createFromSecureContext(collectorTls.context());
  const { gzip, identity } = grpc.compressionAlgorithms;
  const options = {
    "grpc.primary_user_agent": userAgent,
    "grpc.default_compression_algorithm": compression === "gzip" ? gzip : identity,
    // Shared, a connection would remember for up to two minutes that it failed.
    "grpc.use_local_subchannel_pool": 1,
  };
  const address = url.startsWith("unix:") ? url : new URL(url).host;
  let client: grpc.Client | undefined;
  const disconnect = () => {
    client?.close();
    client = undefined;
  };
  const call = (to: grpc.Client, request: Uint8Array, deadline: number) =>
    new Promise<Uint8Array>((resolve, reject) => {
      to.makeUnaryRequest(methods[signal], encode, decode, request, metadata, { deadline }, (error, response) =>
        error ? reject(error) : resolve(response ?? new Uint8Array()),
      );
    });
  return {
    async send(request, timeoutMs) {
      try {
        client ??= new grpc.Client(address, credentials(), options);
        return { kind: "taken", response: await call(client, request, Date.now() + timeoutMs) };
      } catch (error) {
        if (!isServiceError(error)) {
          return { kind: "refused", reason: error instanceof Error ? error.message : "unknown" };
        }
        if (error.code === grpc.status.UNAVAILABLE || error.code === grpc.status.DEADLINE_EXCEEDED) {
          // The next try looks the address up anew, reads the certificates and connects at once: the schedule of tries is not the channel's.
          disconnect();
        }
        return judgeGrpcFailure(error);
      }
    },
    close: disconnect,
  };
}

const encode = (request: Uint8Array) => Buffer.from(request.buffer, request.byteOffset, request.byteLength);
const decode = (response: Buffer): Uint8Array => response;

function isServiceError(error: unknown): error is grpc.ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}
