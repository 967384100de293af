import { isIPv6 } from "node:net";

/** Counter of connections by client address. */
export interface AddressCounter {
  /** Adds a connection and returns its release function; undefined if the address is at its limit. */
  acquire(address: string | undefined): (() => void) | undefined;
}

/** @param maxConnections limit for one address. */
export function createAddressCounter(maxConnections: number): AddressCounter {
  const counts = new Map<string, number>();
  return {
    acquire(address) {
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
 * Return the counting key of an address: an IPv4 address, also if mapped into IPv6, or the /64 network of an IPv6 address, because a client
 * usually owns all addresses of its /64.
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
