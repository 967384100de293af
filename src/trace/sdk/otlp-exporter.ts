import { Agent as HttpAgent, validateHeaderName, validateHeaderValue } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import grpc from "@grpc/grpc-js";
import { OTLPTraceExporter as GrpcExporter } from "@opentelemetry/exporter-trace-otlp-grpc";
import { OTLPTraceExporter as HttpExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import type { tracing } from "@opentelemetry/sdk-node";
import { TelemetryConfigError } from "./environment-reader.js";
import type { ExporterConfig } from "./exporter-config.js";

/** An exporter, and how to let go of its connections whatever state they are in. */
export interface OtlpExporter {
  readonly exporter: tracing.SpanExporter;
  close(): void;
}

/**
 * Makes the exporter for a configuration. Everything is passed in: left to themselves the exporters would read the environment of
 * the process, and turn nonsense into a default.
 */
export function createOtlpExporter(config: ExporterConfig): OtlpExporter {
  return config.protocol === "grpc" ? createGrpcExporter(config) : createHttpExporter(config);
}

function createGrpcExporter({ url, secure, headers, timeoutMs, compression, tls }: ExporterConfig): OtlpExporter {
  const metadata = new grpc.Metadata();
  checkHeaders(headers, (name, value) => metadata.set(name, value));
  const credentials = secure
    ? grpc.credentials.createSsl(tls.ca ?? null, tls.key ?? null, tls.cert ?? null)
    : grpc.credentials.createInsecure();
  const exporter = new GrpcExporter({ url, metadata, credentials, timeoutMillis: timeoutMs, ...compress(compression) });
  return { exporter, close: () => ignore(exporter.shutdown()) };
}

function createHttpExporter({ url, secure, headers, timeoutMs, compression, tls }: ExporterConfig): OtlpExporter {
  checkHeaders(headers, (name, value) => {
    validateHeaderName(name);
    validateHeaderValue(name, value);
  });
  const agent = secure ? new HttpsAgent({ keepAlive: true, ...tls }) : new HttpAgent({ keepAlive: true });
  const exporter = new HttpExporter({
    url,
    headers: { ...headers },
    timeoutMillis: timeoutMs,
    httpAgentOptions: () => agent,
    ...compress(compression),
  });
  return {
    exporter,
    close() {
      ignore(exporter.shutdown());
      agent.destroy();
    },
  };
}

/** Refuses headers that cannot be sent, without showing their values. */
function checkHeaders(headers: ExporterConfig["headers"], check: (name: string, value: string) => void): void {
  for (const [name, value] of Object.entries(headers)) {
    try {
      check(name, value);
    } catch {
      // The cause is left out: its text holds the value.
      throw new TelemetryConfigError(
        "OTEL_EXPORTER_OTLP_HEADERS",
        `has a pair that cannot be sent: ${JSON.stringify(name)}`,
      );
    }
  }
}

/** The exporters' own type for a compression is an enum that they do not export. */
type Compression = NonNullable<NonNullable<ConstructorParameters<typeof HttpExporter>[0]>["compression"]>;

function compress(compression: string): { compression?: Compression } {
  return isCompression(compression) ? { compression } : {};
}

function isCompression(word: string): word is Compression {
  return word === "none" || word === "gzip";
}

function ignore(shutdown: Promise<void>): void {
  shutdown.catch(() => {
    // The export that failed has told why.
  });
}
