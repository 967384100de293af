import { createContextKey } from "@connectrpc/connect";
import { parseTimeout as parseConnectTimeout } from "@connectrpc/connect/protocol-connect";
import { parseTimeout as parseGrpcTimeout } from "@connectrpc/connect/protocol-grpc";
import { maxTimerMs } from "../../timer-limit.js";

/** Margin before the caller's deadline: this share of the time, but at least `leastMs`. */
const share = 0.05;
const leastMs = 20;

/**
 * Return the server's time limit for a call, in whole milliseconds: the caller's less max(20 ms, 5 %), so that the server's error, which
 * names the phase, arrives before the caller's own timer fires. Each hop subtracts the margin, so the last server stops first.
 */
export function serverTimeMs(givenMs: number): number {
  return Math.max(1, Math.floor(givenMs - Math.max(leastMs, givenMs * share)));
}

/** Context key: whether `signal` and `timeoutMs()` have the server's limit already, not the caller's. */
export const isServerTime = createContextKey(false, { description: "server time" });

/**
 * Replace the caller's time limit in the headers by the server's, capped at {@link maxTimerMs}.
 *
 * @returns the server's limit in milliseconds; undefined without a valid one (Connect rejects malformed ones).
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
  const serverMs = serverTimeMs(Math.min(timeoutMs, maxTimerMs));
  // gRPC's form has eight digits at most.
  header.set(name, isGrpc ? (serverMs < 1e8 ? `${serverMs}m` : `${Math.floor(serverMs / 1000)}S`) : `${serverMs}`);
  return serverMs;
}
