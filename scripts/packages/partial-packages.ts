/** A published package that holds a part of this one: the modules that its entries need, and nothing else. */
export interface PartialPackage {
  readonly name: string;
  readonly description: string;
  readonly keywords: readonly string[];
  /** Its README, beside this file. */
  readonly readme: string;
  /** Entries by subpath, as modules of `dist` without an extension. */
  readonly entries: Readonly<Record<string, string>>;
  /** Libraries that its users bring; all others that the modules import are dependencies. */
  readonly peers: readonly string[];
  /** Modules of libraries that are copied into the package, by their place in `dist`, so that it does not depend on the whole library. */
  readonly copied: Readonly<Record<string, string>>;
}

/** The packages that are published beside `throughline`. */
export const partialPackages: readonly PartialPackage[] = [
  {
    name: "@throughline/client",
    description: "Contracts and typed clients of Throughline, the text-to-image mesh, for Node and browsers.",
    keywords: ["client", "connect", "grpc", "protobuf", "text-to-image"],
    readme: "client.md",
    entries: { ".": "client/client", "./contracts": "contracts/contracts" },
    peers: [],
    // The generated contract refers to the descriptor of its rules. Only servers check them, with protovalidate and its CEL.
    copied: { "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js": "gen/buf/validate/validate_pb" },
  },
  {
    name: "@throughline/otelconnect",
    description: "OpenTelemetry, gRPC health checks and server reflection for Connect for ECMAScript.",
    keywords: ["connect", "grpc", "health", "opentelemetry", "reflection", "tracing"],
    readme: "otelconnect.md",
    entries: { ".": "otelconnect/otelconnect", "./connect-health": "connect-health/connect-health" },
    peers: ["@bufbuild/protobuf", "@connectrpc/connect", "@opentelemetry/api"],
    copied: {},
  },
];
