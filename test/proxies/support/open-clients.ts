import type { Client, Server } from "./client.js";
import { openCurlClient, openFetchClient } from "./connect-client.js";
import { openGrpcClient } from "./grpc-client.js";
import { openGrpcWebClient } from "./grpc-web-client.js";

/** Opens clients of each protocol, and of each version of HTTP. */
export const clients: Readonly<Record<string, (server: Server) => Client>> = {
  "gRPC (grpc-js)": openGrpcClient,
  "gRPC-Web (fetch)": openGrpcWebClient,
  "Connect with JSON (fetch)": openFetchClient,
  "Connect with JSON (curl --http1.1)": (server) => openCurlClient(server, "--http1.1"),
  "Connect with JSON (curl --http2)": (server) => openCurlClient(server, "--http2"),
};
