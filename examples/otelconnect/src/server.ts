import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { createHealth, reflectionRoutes, ServingStatus } from "throughline/connect-health";
import { createServerInterceptor } from "throughline/otelconnect";
import { startTelemetry } from "./telemetry.js";

const sdk = startTelemetry("health-server");
const health = createHealth({ services: ["example.v1.Greeter"] });
health.setAll(ServingStatus.SERVING);

const server = createServer(
  connectNodeAdapter({
    routes(router) {
      health.routes(router);
      reflectionRoutes([health.service])(router);
    },
    // A server for unauthenticated clients keeps the default, "link".
    interceptors: [createServerInterceptor({ remoteParent: "trust" })],
  }),
);
server.listen(Number(process.env["PORT"] ?? 8090), "127.0.0.1", () => {
  process.stdout.write(`listening at http://127.0.0.1:${(server.address() as AddressInfo).port}\n`);
});

process.once("SIGTERM", () => {
  health.close();
  server.close();
  // Exports the spans that are still in the queue.
  sdk.shutdown().then(
    () => process.exit(0),
    () => process.exit(1),
  );
});
