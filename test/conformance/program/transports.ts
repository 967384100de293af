import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { compressionGzip, createGrpcTransport as createConnectNodeTransport } from "@connectrpc/connect-node";
import * as grpc from "@grpc/grpc-js";
import { Health } from "../../../src/gen/grpc/health/v1/health_pb.js";
import { createBalancedTransport } from "../../../src/mesh/balance/balanced-transport.js";
import { createBalancer } from "../../../src/mesh/balance/balancer.js";
import { type Connections, createConnections } from "../../../src/mesh/grpc/grpc-connections.js";
import { CallFailure } from "../../../src/mesh/grpc/grpc-status.js";
import { readPolicies } from "../../../src/mesh/grpc/policies.js";
import { createTlsChannelCredentials } from "../../../src/mesh/tls/tls-channel.js";
import type { TlsMaterial } from "../../../src/mesh/tls/tls-material.js";
import { type ClientCompatRequest, Compression } from "./messages.js";

/** A transport for one call, and how to close it. */
export interface OpenTransport {
  readonly transport: Transport;
  close(): void;
}

/** The transport of the mesh to all replicas of an app, of which there is one here, put together as `connectApp` does it. */
export function openBalanced(request: ClientCompatRequest): OpenTransport {
  const policies = policiesOf(request);
  const credentials = credentialsOf(request);
  const balancer = createBalancer({
    appId: "conformance/server",
    target: targetOf(request),
    policies,
    connect: ({ target, grpcOptions }) =>
      withoutHealth(
        createConnections({
          target,
          policies,
          credentials,
          grpcOptions: { ...grpcOptions, ...compressionOptions(request) },
        }),
      ),
  });
  return { transport: createBalancedTransport({ balancer, policies }), close: balancer.close };
}

/** The suite's server answers 400 to whatever is no case of its own, where a server without health service answers UNIMPLEMENTED. */
function withoutHealth(connections: Connections): Connections {
  return {
    ...connections,
    start(path, metadata, listener) {
      if (!path.startsWith(`/${Health.typeName}/`)) {
        return connections.start(path, metadata, listener);
      }
      const failure = new CallFailure(new ConnectError("no health service", Code.Unimplemented), "server");
      setImmediate(() => listener.onEnd(failure, new grpc.Metadata()));
      return { send() {}, halfClose() {}, read() {}, cancel() {} };
    },
  };
}

/** Connect's own transport for Node, as a reference. */
export function openConnectNode(request: ClientCompatRequest): OpenTransport {
  const { ca, cert, key } = materialOf(request);
  const transport = createConnectNodeTransport({
    baseUrl: `${ca ? "https" : "http"}://${targetOf(request)}`,
    acceptCompression: [compressionGzip],
    compressMinBytes: 0,
    ...(isGzip(request) && { sendCompression: compressionGzip }),
    ...(request.messageReceiveLimit > 0 && { readMaxBytes: request.messageReceiveLimit }),
    nodeOptions: { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) },
  });
  return { transport, close() {} };
}

/** Address of the suite's server, `host:port`. */
export function targetOf({ host, port }: ClientCompatRequest): string {
  return `${host}:${port}`;
}

/** TLS, or its absence, as the case wants it. */
function credentialsOf(request: ClientCompatRequest): grpc.ChannelCredentials {
  const current = materialOf(request);
  return current.ca === undefined
    ? grpc.credentials.createInsecure()
    : createTlsChannelCredentials({ current, onChange() {}, close() {} });
}

/** The same with grpc-js alone. */
export function credentialsForGrpcJs(request: ClientCompatRequest): grpc.ChannelCredentials {
  const { ca, cert, key } = materialOf(request);
  return ca === undefined
    ? grpc.credentials.createInsecure()
    : grpc.credentials.createSsl(ca, key ?? null, cert ?? null);
}

/** PEM files of the case; all absent without TLS. */
function materialOf({ serverTlsCert, clientTlsCreds }: ClientCompatRequest): TlsMaterial {
  return {
    ca: serverTlsCert.length > 0 ? Buffer.from(serverTlsCert) : undefined,
    cert: clientTlsCreds && Buffer.from(clientTlsCreds.cert),
    key: clientTlsCreds && Buffer.from(clientTlsCreds.key),
  };
}

/** How grpc-js is told to compress requests. */
export function compressionOptions(request: ClientCompatRequest): grpc.ChannelOptions {
  return isGzip(request) ? { "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip } : {};
}

function isGzip({ compression }: ClientCompatRequest): boolean {
  return compression === Compression.GZIP;
}

function policiesOf({ messageReceiveLimit }: ClientCompatRequest) {
  return readPolicies({
    // The suite counts requests.
    retry: { maxAttempts: 1 },
    ...(messageReceiveLimit > 0 && { messages: { maxReceiveBytes: messageReceiveLimit } }),
  });
}
