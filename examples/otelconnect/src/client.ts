import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { trace } from "@opentelemetry/api";
import { createHealth } from "throughline/connect-health";
import { createClientInterceptor } from "throughline/otelconnect";
import { startTelemetry } from "./telemetry.js";

const [, , baseUrl = "http://127.0.0.1:8090"] = process.argv;
const sdk = startTelemetry("health-client");
const { service } = createHealth({ services: [] });
const client = createClient(service, createGrpcTransport({ baseUrl, interceptors: [createClientInterceptor()] }));

await trace.getTracer("example").startActiveSpan("morning-check", async (span) => {
  const { status } = await client.check({ service: "example.v1.Greeter" });
  process.stdout.write(`status ${status}, trace ${span.spanContext().traceId}\n`);
  span.end();
});
await sdk.shutdown();
