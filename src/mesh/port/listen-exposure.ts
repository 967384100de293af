import { lookup } from "node:dns/promises";
import { BlockList, isIP, isIPv6 } from "node:net";

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

/** Whether a URL's host is a loopback name: `localhost`, a name below it, or a loopback address. */
export function isLoopbackName(host: string): boolean {
  const address = host.replace(/^\[(.*)\]$/, "$1");
  const family = isIP(address);
  return family === 0 ? /^(?:.+\.)?localhost$/i.test(host) : loopback.check(address, family === 6 ? "ipv6" : "ipv4");
}

/** Rejection of an unauthenticated server on an address that other machines reach. */
export class OpenServerError extends Error {
  override readonly name = "OpenServerError";
  readonly host: string;

  constructor(host: string) {
    super(
      `an unauthenticated server must not listen on ${host}; configure callers or client certificates, or allow open access explicitly`,
    );
    this.host = host;
  }
}

/** Options of {@link checkExposure}. */
export interface ExposureOptions {
  /** Name or address to listen on. */
  readonly host: string;
  /** Whether the server authenticates its callers. */
  readonly authenticatesCallers: boolean;
  /** Whether unauthenticated access from other machines is allowed. */
  readonly allowOpen: boolean;
  /** Resolves the host to an address. @default the system's resolver */
  readonly resolve?: (host: string) => Promise<{ readonly address: string }>;
}

/** Result of {@link checkExposure}. */
export interface Exposure {
  /** The address to bind. */
  readonly address: string;
  /** Whether other machines have unauthenticated access. */
  readonly isOpen: boolean;
}

/**
 * Resolve a host and check whether a server may listen there.
 *
 * @throws OpenServerError for an unauthenticated server, unless it listens on loopback or `allowOpen` is set; the system's error if the host
 * cannot be resolved.
 */
export async function checkExposure(options: ExposureOptions): Promise<Exposure> {
  const { host, authenticatesCallers, allowOpen, resolve = lookup } = options;
  const { address } = await resolve(host);
  const isOpen = !authenticatesCallers && !loopback.check(address, isIPv6(address) ? "ipv6" : "ipv4");
  if (isOpen && !allowOpen) {
    throw new OpenServerError(host);
  }
  return { address, isOpen };
}
