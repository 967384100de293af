import { Code, type ConnectError } from "@connectrpc/connect";
import ipaddr from "ipaddr.js";
import type { Caller } from "../mesh/access/callers.js";
import { createConnectError, invalidArgument } from "../mesh/errors/errors.js";
import type { AddressRanges } from "./address-ranges.js";

/** Metadata key by which a worker behind a proxy or NAT names its IP address. */
export const addressHeader = "throughline-address";

/** Options of {@link registeredHost}. */
export interface RegisteredHostOptions {
  readonly caller: Pick<Caller, "name" | "address">;
  /** Value of {@link addressHeader}; null without one. */
  readonly named: string | null;
  readonly allowed: AddressRanges;
}

/**
 * Return the IP address of a replica that registers: that of its connection, or the one that it names.
 *
 * | the caller | the connection's address | a named address |
 * |---|---|---|
 * | is authenticated | always | must be in `allowed` |
 * | is anonymous | must be in `allowed` | must be in `allowed` too |
 *
 * A named address never leads to the pipeline's own machine, unless the connection comes from there, and never to a link-local address, such
 * as that of a cloud's metadata.
 *
 * @returns IPv4 or IPv6 in its shortest form; an IPv4 address mapped into IPv6 is IPv4.
 * @throws ConnectError PERMISSION_DENIED for an address that is not allowed; INVALID_ARGUMENT for a name or another text that is no address;
 * FAILED_PRECONDITION for a call without a connection, or over a link-local address.
 */
export function registeredHost({ caller, named, allowed }: RegisteredHostOptions): string {
  if (caller.address === undefined || !ipaddr.isValid(caller.address)) {
    throw unusable("the call has no connection whose address could be registered");
  }
  const peer = ipaddr.process(caller.address);
  const own = plain(peer);
  if (caller.name === undefined && !allowed.contains(own)) {
    throw denied(
      `an anonymous worker may register from ${allowed.labels.join(", ")} only, and this connection comes from ${own}; ` +
        "on the pipeline, --callers authenticates workers, and --register-allow names ranges",
    );
  }
  if (named !== null && !ipaddr.IPv4.isValidFourPartDecimal(named) && !ipaddr.IPv6.isValid(named)) {
    throw invalidArgument(`the metadata ${addressHeader} must be one IP address, without a port`);
  }
  const wanted = named === null ? peer : ipaddr.process(named);
  const host = plain(wanted);
  if (host === own) {
    if (peer.range() === "linkLocal") {
      throw unusable(
        `the connection comes from the link-local address ${own}, which cannot be called back: register at another address of the pipeline`,
      );
    }
    return own;
  }
  if (!allowed.contains(host)) {
    throw denied(
      `the named address ${host} is not in ${allowed.labels.join(", ")}; on the pipeline, --register-allow names ranges`,
    );
  }
  const isUsable = !unreachable.has(wanted.range()) && (wanted.range() !== "loopback" || peer.range() === "loopback");
  if (!isUsable) {
    throw denied(`the named address ${host} (${wanted.range()}) leads to no worker on another machine`);
  }
  return host;
}

/** Ranges without machines that could be workers. 169.254.169.254 is a cloud's metadata service. */
const unreachable: ReadonlySet<string> = new Set(["unspecified", "broadcast", "multicast", "linkLocal"]);

/** Without a zone, which means something on one machine only. */
function plain(address: ipaddr.IPv4 | ipaddr.IPv6): string {
  return address.toString().replace(/%.*$/, "");
}

function denied(message: string): ConnectError {
  return createConnectError({ code: Code.PermissionDenied, message });
}

function unusable(message: string): ConnectError {
  return createConnectError({ code: Code.FailedPrecondition, message });
}
