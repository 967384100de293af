import * as grpc from "@grpc/grpc-js";

/** One address of a target. */
export interface GrpcAddress {
  /** What tells it from the others: `10.0.0.1:50052`, `[::1]:50052` or the path of a Unix socket. */
  readonly name: string;
  /** `server.address` and `server.port` of the semantic conventions; a Unix socket's path has no port. */
  readonly host: string;
  readonly port: number | undefined;
  /** gRPC target of this address alone. */
  readonly target: string;
  /** Channel options that keep the name of the whole target, which an address alone does not have, for HTTP/2 and TLS. */
  readonly grpcOptions: grpc.ChannelOptions;
}

/** What is told of a target's addresses. */
export interface AddressListener {
  /** The addresses of now, each once; there may be none. */
  onAddresses(addresses: readonly GrpcAddress[]): void;
  /** They cannot be found. What was told before may still be true. */
  onFailure(): void;
}

/** Options of {@link watchAddresses}. */
export interface AddressOptions {
  /** gRPC target, of a scheme that grpc-js has a resolver for. */
  readonly target: string;
  /** Least time between two resolutions of a name, and most without one, in milliseconds. */
  readonly everyMs: number;
}

/** A watch on a target's addresses. */
export interface AddressWatch {
  /** Looks again soon: a lost connection may mean that the address has gone. */
  refresh(): void;
  stop(): void;
}

/** Names are asked for again no sooner than this, in milliseconds; grpc-js alone would wait for 30 s. */
const leastResolveMs = 1_000;

/**
 * Tells the addresses of a target, and again whenever they change: grpc-js's resolvers, asked regularly, where grpc-js itself asks only when
 * a connection was lost and so would never see a server that is added.
 *
 * @throws Error where the target cannot be parsed.
 */
export function watchAddresses({ target, everyMs }: AddressOptions, listener: AddressListener): AddressWatch {
  const uri = parseTarget(target);
  let stopped = false;
  const resolver = grpc.experimental.createResolver(
    uri,
    (found) => {
      // A resolver that was destroyed still reports what it was asked before.
      if (stopped) {
        return true;
      }
      if (found.ok) {
        const addresses = found.value.flatMap((endpoint) =>
          endpoint.addresses.map((address) => describe(address, uri)),
        );
        listener.onAddresses([...new Map(addresses.map((address) => [address.name, address])).values()]);
      } else {
        listener.onFailure();
      }
      return true;
    },
    {
      "grpc.service_config_disable_resolution": 1,
      "grpc.dns_min_time_between_resolutions_ms": Math.min(everyMs, leastResolveMs),
    },
  );
  const timer = setInterval(() => resolver.updateResolution(), everyMs).unref();
  resolver.updateResolution();
  return {
    refresh: () => resolver.updateResolution(),
    stop() {
      stopped = true;
      clearInterval(timer);
      resolver.destroy();
    },
  };
}

/** As grpc-js parses it: what has no scheme that a resolver is registered for is a DNS name. */
function parseTarget(target: string): grpc.experimental.GrpcUri {
  const [, scheme, authority, path = ""] = /^(?:([A-Za-z0-9+.-]+):)?(?:\/\/([^/]*)\/)?(.+)$/.exec(target) ?? [];
  if (path === "") {
    throw new Error(`"${target}" is not a gRPC target`);
  }
  const uri = { scheme: scheme ?? "dns", path, ...(authority !== undefined && { authority }) };
  return isResolvable(uri) ? uri : { scheme: "dns", path: target };
}

function isResolvable(uri: grpc.experimental.GrpcUri): boolean {
  try {
    grpc.experimental.createResolver(uri, () => true, {}).destroy();
    return true;
  } catch {
    return false;
  }
}

function describe(address: grpc.experimental.SubchannelAddress, uri: grpc.experimental.GrpcUri): GrpcAddress {
  if ("path" in address) {
    const { path } = address;
    return { name: path, host: path, port: undefined, target: `unix:${path}`, grpcOptions: {} };
  }
  const { host, port } = address;
  const isIpv6 = host.includes(":");
  const name = isIpv6 ? `[${host}]:${port}` : `${host}:${port}`;
  return { name, host, port, target: `${isIpv6 ? "ipv6" : "ipv4"}:${name}`, grpcOptions: nameOptions(uri) };
}

function nameOptions({ scheme, path }: grpc.experimental.GrpcUri): grpc.ChannelOptions {
  const host = scheme === "dns" ? grpc.experimental.splitHostPort(path)?.host : undefined;
  return host === undefined ? {} : { "grpc.default_authority": path, "grpc.ssl_target_name_override": host };
}
