import { isIPv6 } from "node:net";

/** Counts the connections of each address. */
export interface AddressCounter {
  /** Adds a connection, and returns how to take it off again. Undefined where its address has as many as it may. */
  enter(address: string | undefined): (() => void) | undefined;
}

/** @param maxConnections of one address at once. */
export function createAddressCounter(maxConnections: number): AddressCounter {
  const counts = new Map<string, number>();
  return {
    enter(address) {
      const group = addressGroup(address);
      const count = counts.get(group) ?? 0;
      if (count >= maxConnections) {
        return undefined;
      }
      counts.set(group, count + 1);
      return () => {
        const left = (counts.get(group) ?? 0) - 1;
        if (left > 0) {
          counts.set(group, left);
        } else {
          counts.delete(group);
        }
      };
    },
  };
}

/**
 * What counts as one address: an IPv4 address, also where it comes mapped into IPv6, or the first half of an IPv6 address, since whoever
 * has one of a /64 network has all of them.
 */
export function addressGroup(address: string | undefined): string {
  if (address === undefined || !isIPv6(address)) {
    return address ?? "unknown";
  }
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) {
    return mapped;
  }
  const [front = "", back] = address.replace(/%.*$/, "").split("::");
  const groups = front === "" ? [] : front.split(":");
  const behind = back === undefined || back === "" ? [] : back.split(":");
  const zeros = back === undefined ? 0 : 8 - groups.length - behind.length;
  const all = [...groups, ...Array.from({ length: zeros }, () => "0"), ...behind];
  const network = all.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16));
  return `${network.join(":")}::/64`;
}
