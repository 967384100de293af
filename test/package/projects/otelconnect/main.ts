import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http2";
import { promisify } from "node:util";
import { createClient } from "@connectrpc/connect";
import { connectNodeAdapter, createGrpcTransport } from "@connectrpc/connect-node";
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { createClientInterceptor, createServerInterceptor } from "@throughline/otelconnect";
import { createHealth, reflectionRoutes, ServingStatus } from "@throughline/otelconnect/connect-health";

/** Serves health and reflection, calls them with Connect's client and with buf, which has no .proto files, and prints what came. */
const [, , buf = "buf"] = process.argv;
const greeter = "example.v1.Greeter";
const exporter = new InMemorySpanExporter();
const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
const health = createHealth({ services: [greeter] });
const server = createServer(
  connectNodeAdapter({
    routes(router) {
      health.routes(router);
      reflectionRoutes([health.service])(router);
    },
    interceptors: [createServerInterceptor({ tracerProvider, remoteParent: "trust" })],
  }),
);
server.listen(0, "127.0.0.1");
await once(server, "listening");
const address = server.address();
const baseUrl = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;

const transport = createGrpcTransport({ baseUrl, interceptors: [createClientInterceptor({ tracerProvider })] });
const client = createClient(health.service, transport);
const before = (await client.check({ service: greeter })).status;
health.set(greeter, ServingStatus.SERVING);
const after = (await client.check({ service: greeter })).status;
const spans = exporter.getFinishedSpans().map(({ name, kind }) => `${name} ${kind}`);
const foreign = await promisify(execFile)(buf, [
  ...["curl", "--protocol", "grpc", "--http2-prior-knowledge", "--data", JSON.stringify({ service: greeter })],
  `${baseUrl}/grpc.health.v1.Health/Check`,
]);
process.stdout.write(JSON.stringify({ before, after, spans, foreign: JSON.parse(foreign.stdout) }));
server.close();
process.exit();
