import { lookup } from "node:dns/promises";
import { BlockList, isIP, isIPv6 } from "node:net";

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

/** Whether a host, as URLs write it, can mean this machine alone: `localhost`, a name below it, or an address of loopback. */
export function isLoopbackName(host: string): boolean {
  const address = host.replace(/^\[(.*)\]$/, "$1");
  const family = isIP(address);
  return family === 0 ? /^(?:.+\.)?localhost$/i.test(host) : loopback.check(address, family === 6 ? "ipv6" : "ipv4");
}

/** A server that anybody could call was about to listen where other machines reach it. */
export class OpenServerError extends Error {
  override readonly name = "OpenServerError";
  readonly host: string;

  constructor(host: string) {
    super(
      `on ${host} anybody who reaches this machine could call; name the callers, require client certificates, or allow it by saying so`,
    );
    this.host = host;
  }
}

/** Options of {@link checkExposure}. */
export interface ExposureOptions {
  /** Name or address to listen on. */
  readonly host: string;
  /** Whether the server knows its callers. */
  readonly knowsCallers: boolean;
  /** Whether it may be open to anybody. */
  readonly mayBeOpen: boolean;
}

/** What listening on a host means. */
export interface Exposure {
  /** The address to bind. */
  readonly address: string;
  /** Whether anybody from other machines may call. */
  readonly isOpen: boolean;
}

/**
 * Finds the address of a host and whether a server may listen there.
 *
 * @throws OpenServerError for a server that knows no callers, unless it listens on loopback or is allowed to be open; the system's error
 * where the host cannot be found.
 */
export async function checkExposure({ host, knowsCallers, mayBeOpen }: ExposureOptions): Promise<Exposure> {
  const { address } = await lookup(host);
  const isOpen = !knowsCallers && !loopback.check(address, isIPv6(address) ? "ipv6" : "ipv4");
  if (isOpen && !mayBeOpen) {
    throw new OpenServerError(host);
  }
  return { address, isOpen };
}
