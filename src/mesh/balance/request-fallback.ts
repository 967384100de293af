import type { Message } from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";

/** Older form of a request, for replicas that reject the current one. Old and new replicas can then serve one app. */
export interface RequestFallback {
  /** Converts a request message to the older form. Messages without one are returned unchanged. */
  toOlder(message: Message): Message;
  /** Whether an error means that the replica rejects the current form. */
  rejectsCurrent(error: ConnectError): boolean;
}

/** Time until a replica gets the current form again, in milliseconds: it may have been upgraded in place. */
const retryAfterMs = 600_000;

/** Replicas that need the older form of requests. */
export interface OlderReplicas {
  has(replica: object): boolean;
  add(replica: object): void;
}

/**
 * Create the memory of replicas that need the older form. An entry lasts 10 minutes.
 *
 * @param now monotonic clock, in milliseconds.
 */
export function createOlderReplicas(now: () => number = () => performance.now()): OlderReplicas {
  const addedAt = new WeakMap<object, number>();
  return {
    has: (replica) => now() - (addedAt.get(replica) ?? Number.NEGATIVE_INFINITY) < retryAfterMs,
    add: (replica) => void addedAt.set(replica, now()),
  };
}
