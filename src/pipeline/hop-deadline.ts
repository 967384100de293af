/** A hop gives up this share of its time, but at least this many milliseconds, before its caller does. */
const share = 0.05;
const leastMs = 20;

/**
 * The deadline to give to the next hop: shorter than our own by max(20 ms, 5 %), so that its answer about where the time went
 * arrives before our caller's timer fires. Undefined without a deadline; at least 1.
 */
export function hopTimeoutMs(remainingMs: number | undefined): number | undefined {
  return remainingMs === undefined ? undefined : Math.max(1, remainingMs - Math.max(leastMs, remainingMs * share));
}
