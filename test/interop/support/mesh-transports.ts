import type { Transport } from "@connectrpc/connect";
import { connectApp } from "../../../src/mesh/balance/connect-app.js";
import { readPolicies } from "../../../src/mesh/grpc/policies.js";

/** A client transport under test. */
export interface MeshTransport {
  readonly transport: Transport;
  close(): void;
}

/** The client transports of the mesh, by name: this file alone knows where they come from. */
export const meshTransports: Readonly<Record<string, (port: number) => MeshTransport>> = {
  balanced(port) {
    const target = `ipv4:127.0.0.1:${port}`;
    return connectApp({ appId: "test/interop", target, policies: readPolicies() });
  },
};
