import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-grpc";
import { NodeSDK } from "@opentelemetry/sdk-node";

/** Starts OpenTelemetry's SDK. It reads OTEL_EXPORTER_OTLP_ENDPOINT, and registers the globals that the interceptors use. */
export function startTelemetry(serviceName: string): NodeSDK {
  const sdk = new NodeSDK({ serviceName, traceExporter: new OTLPTraceExporter() });
  sdk.start();
  return sdk;
}
