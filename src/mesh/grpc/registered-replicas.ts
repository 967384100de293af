import { isIPv6 } from "node:net";
import type { GrpcAddress } from "./grpc-addresses.js";

/** A replica that has registered itself. */
export interface RegisteredReplica {
  /** IP address, IPv4 or IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
  /** Version that it states; empty for none. */
  readonly version: string;
}

/** Registered replicas of one app, which change without a new entry of the directory. */
export interface RegisteredReplicas {
  readonly current: readonly RegisteredReplica[];
  /** Calls back at each change. Returns a function that cancels it. */
  onChange(listener: () => void): () => void;
}

const scheme = "registry:";

/** Target of an app that has registered replicas only. */
export function registryTarget(appId: string): string {
  return `${scheme}${appId}`;
}

/** Whether a target stands for registered replicas, and has no address of its own. */
export function isRegistryTarget(target: string): boolean {
  return target.startsWith(scheme);
}

/** Address of a registered replica, in the form of a target's own. */
export function registeredAddress({ host, port }: RegisteredReplica): GrpcAddress {
  const name = registeredName({ host, port });
  return { name, host, port, target: `${isIPv6(host) ? "ipv6" : "ipv4"}:${name}`, grpcOptions: {} };
}

/** Name of an address: `10.0.0.1:50052` or `[::1]:50052`. */
export function registeredName({ host, port }: Pick<RegisteredReplica, "host" | "port">): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}
