import { Code, type ConnectError } from "@connectrpc/connect";
import { createConnectError } from "../errors/connect-error.js";
import { retryInfo } from "../errors/retry-info.js";
import { addressGroup } from "../port/listen-addresses.js";
import type { Reloaded } from "../tls/reloaded-files.js";
import type { CallerDirectory, CallerEntry } from "./caller-directory.js";
import { appDenied, type Caller } from "./callers.js";
import type { Peer } from "./peer.js";
import { createRateLimit, type RateLimit } from "./rate-limit.js";

/** What is known of a call before its body is read. */
export interface GateCall {
  /** Full name of the service that is called; undefined for what is no RPC. */
  readonly service: string | undefined;
  /** Value of the `authorization` header. */
  readonly authorization: string | undefined;
  readonly peer: Peer;
}

/** A call that was let in. */
export interface Entry {
  readonly caller: Caller;
  /** Ends the call's count among the running ones. */
  leave(): void;
}

/** Decides about each call from its headers and its connection alone, so that a stranger's body is not even read. */
export interface Gate {
  /** Throws a ConnectError: UNAUTHENTICATED, PERMISSION_DENIED, or RESOURCE_EXHAUSTED with RetryInfo. */
  enter(call: GateCall): Entry;
}

/** Options of {@link createGate}. */
export interface GateOptions {
  /** Who may call. Absent: anybody, known by the address alone. */
  readonly callers?: Reloaded<CallerDirectory> | undefined;
  /** Services that anybody may call, whoever may call the others: health checks. */
  readonly openServices?: readonly string[] | undefined;
  /** App id of the server: only callers that may use it get in. Absent: apps are checked further in. */
  readonly appId?: string | undefined;
  /** Milliseconds of a clock that never goes back. */
  readonly now?: (() => number) | undefined;
}

/** How long a caller is asked to wait that has too many calls running; when one ends, nobody knows. */
const concurrencyRetryMs = 1_000;

/** Makes a gate. Counts outlive a reload of the callers: a caller's name has one count whatever its limits become. */
export function createGate({ callers, openServices = [], appId, now }: GateOptions): Gate {
  const open = new Set(openServices);
  const running = new Map<string, number>();
  const rates = new Map<string, { readonly limits: string; readonly rate: RateLimit }>();

  function takeToken({ name, rate }: CallerEntry): void {
    if (rate === undefined) {
      return;
    }
    const limits = `${rate.perSecond} ${rate.burst}`;
    let bucket = rates.get(name);
    if (bucket?.limits !== limits) {
      bucket = { limits, rate: createRateLimit({ ...rate, now }) };
      rates.set(name, bucket);
    }
    const waitMs = bucket.rate.take();
    if (waitMs > 0) {
      throw exhausted(`caller ${name} has sent more than its ${rate.words}`, waitMs);
    }
  }

  function takePlace({ name, maxConcurrent }: CallerEntry): () => void {
    if (maxConcurrent === undefined) {
      return () => {};
    }
    const count = running.get(name) ?? 0;
    if (count >= maxConcurrent) {
      throw exhausted(`caller ${name} has ${count} calls running, and may have no more`, concurrencyRetryMs);
    }
    running.set(name, count + 1);
    let left = false;
    return () => {
      const others = (running.get(name) ?? 1) - 1;
      if (left) {
        return;
      }
      left = true;
      if (others > 0) {
        running.set(name, others);
      } else {
        running.delete(name);
      }
    };
  }

  return {
    enter({ service, authorization, peer }) {
      if (callers === undefined || (service !== undefined && open.has(service))) {
        const countKey = `address ${addressGroup(peer.address)}`;
        return {
          caller: { name: undefined, countKey, mayNameCallers: callers === undefined, mayUse: () => true },
          leave: () => {},
        };
      }
      const entry = callers.current.find({ authorization, certificateNames: peer.certificateNames });
      if (entry === undefined) {
        throw createConnectError({
          code: Code.Unauthenticated,
          message:
            "this server has to know who calls: send a valid key as authorization: Bearer, or a client certificate",
          metadata: { "www-authenticate": "Bearer" },
        });
      }
      const { name, mayUse, mayNameCallers } = entry;
      const caller: Caller = { name, countKey: `caller ${name}`, mayNameCallers, mayUse };
      if (appId !== undefined && !caller.mayUse(appId)) {
        throw appDenied(caller);
      }
      // First the place: a call that gets none has not used up a token.
      const leave = takePlace(entry);
      try {
        takeToken(entry);
      } catch (error) {
        leave();
        throw error;
      }
      return { caller, leave };
    },
  };
}

/** The push-back holds gRPC clients back, our own balancer among them, which would else ask the next server at once. */
function exhausted(message: string, waitMs: number): ConnectError {
  return createConnectError({
    code: Code.ResourceExhausted,
    message,
    details: [retryInfo(waitMs)],
    metadata: { "grpc-retry-pushback-ms": String(waitMs) },
  });
}
