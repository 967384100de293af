/** Streams of jobs by the protocol. A browser has six connections to a server without HTTP/2, for all of its windows together. */
const streams = { multiplexed: 8, single: 1 };

/**
 * How many jobs the page can watch, by how it was loaded itself.
 *
 * @param performance the browser's.
 */
export function maxStreams(performance: { getEntriesByType(type: string): readonly object[] }): number {
  const [page] = performance.getEntriesByType("navigation");
  const protocol = page !== undefined && "nextHopProtocol" in page ? page.nextHopProtocol : "";
  return protocol === "h2" || protocol === "h3" ? streams.multiplexed : streams.single;
}

/** 128 random bits as hexadecimal digits. `crypto.randomUUID` is not there over plain HTTP from another machine. */
export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
