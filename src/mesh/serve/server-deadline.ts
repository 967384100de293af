import { createContextKey } from "@connectrpc/connect";
import { parseTimeout as parseConnectTimeout } from "@connectrpc/connect/protocol-connect";
import { parseTimeout as parseGrpcTimeout } from "@connectrpc/connect/protocol-grpc";

/** A server stops this share of a call's time before the caller's own timer fires, and at least so many milliseconds. */
const share = 0.05;
const leastMs = 20;

/** setTimeout fires at once above this: 24 days. */
export const maxTimeoutMs = 2_147_483_000;

/**
 * The time that a server takes for a call, in whole milliseconds: max(20 ms, 5 %) less than the caller gave, so that the error about
 * where the time went arrives before the caller's own timer fires. Every hop does the same, so the furthest server stops first and its
 * message travels all the way.
 */
export function serverTimeMs(givenMs: number): number {
  return Math.max(1, Math.floor(givenMs - Math.max(leastMs, givenMs * share)));
}

/** Context key of a call: whether its signal and its `timeoutMs()` are the server's time already, not the caller's. */
export const isServerTime = createContextKey(false, { description: "server time" });

/**
 * Replaces the caller's time limit in the headers by the server's, and cuts one that no timer can take.
 *
 * @returns the server's time in milliseconds; undefined without a valid time limit: Connect rejects the others.
 */
export function limitTimeout(header: Headers): number | undefined {
  const isGrpc = header.has("grpc-timeout");
  const name = isGrpc ? "grpc-timeout" : "connect-timeout-ms";
  const value = header.get(name);
  if (value === null) {
    return undefined;
  }
  const { timeoutMs } = (isGrpc ? parseGrpcTimeout : parseConnectTimeout)(value, Number.MAX_SAFE_INTEGER);
  if (timeoutMs === undefined) {
    return undefined;
  }
  const serverMs = serverTimeMs(Math.min(timeoutMs, maxTimeoutMs));
  // gRPC's form has eight digits at most.
  header.set(name, isGrpc ? (serverMs < 1e8 ? `${serverMs}m` : `${Math.floor(serverMs / 1000)}S`) : `${serverMs}`);
  return serverMs;
}
