import * as grpc from "@grpc/grpc-js";

/** One address of a target. */
export interface GrpcAddress {
  /** Unique name: `10.0.0.1:50052`, `[::1]:50052` or the path of a Unix socket. */
  readonly name: string;
  /** `server.address` and `server.port` of the semantic conventions; a Unix socket's path has no port. */
  readonly host: string;
  readonly port: number | undefined;
  /** gRPC target of this address alone. */
  readonly target: string;
  /** Channel options with the target's host name, for HTTP/2's authority and for TLS. */
  readonly grpcOptions: grpc.ChannelOptions;
}

/** Listener for a target's addresses. */
export interface AddressListener {
  /** Receives the current addresses, each once; possibly none. */
  onAddresses(addresses: readonly GrpcAddress[]): void;
  /** The resolution failed. Earlier addresses may still be valid. */
  onFailure(): void;
}

/** Options of {@link watchAddresses}. */
export interface AddressOptions {
  /** gRPC target with a scheme that grpc-js resolves. */
  readonly target: string;
  /** Interval of the resolutions of a name, in milliseconds. */
  readonly everyMs: number;
}

/** A watch on a target's addresses. */
export interface AddressWatch {
  /** Resolves again soon, such as after a lost connection. */
  refresh(): void;
  stop(): void;
}

/** Minimum time between two resolutions of a name, in milliseconds. grpc-js's default is 30 s. */
const leastResolveMs = 1_000;

/**
 * Watch the addresses of a target with grpc-js's resolvers, at a fixed interval. grpc-js itself resolves only after a lost connection and
 * would never see an added server.
 *
 * @throws Error if the target cannot be parsed.
 */
export function watchAddresses({ target, everyMs }: AddressOptions, listener: AddressListener): AddressWatch {
  const uri = parseTarget(target);
  let stopped = false;
  const resolver = grpc.experimental.createResolver(
    uri,
    (found) => {
      // A destroyed resolver still reports a resolution that was in progress.
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
      // Its back-off after failures grows to 2 minutes: an app that has had no replica for an hour would get its first one that late.
      "grpc.initial_reconnect_backoff_ms": Math.min(everyMs, leastResolveMs),
      "grpc.max_reconnect_backoff_ms": Math.min(everyMs, leastResolveMs),
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

/** Parse a target as grpc-js does: without a registered scheme it is a DNS name. */
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
