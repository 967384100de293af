import { Code, ConnectError } from "@connectrpc/connect";
import { createConnectError, retryInfo } from "../errors/errors.js";
import { addressGroup } from "../port/listen-addresses.js";
import { type NodeHandler, type NodeRequest, type NodeResponse, respondPlain } from "../port/node-handler.js";
import type { Reloaded } from "../tls/reloaded-files.js";
import type { CallerDirectory, CallerEntry } from "./caller-directory.js";
import { appDenied, type Caller } from "./callers.js";
import { type Peer, peerOf } from "./peer.js";

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

const statuses = new Map([
  [Code.Unauthenticated, 401],
  [Code.PermissionDenied, 403],
  [Code.ResourceExhausted, 429],
]);

/** Answers a request of a caller who was let in. */
export type CallerHandler = (request: NodeRequest, response: NodeResponse, caller: Caller) => void;

/** Puts a gate before what is no RPC: 401, 403 or 429 in plain text for whom it does not let in. */
export function gateHandler(gate: Gate, handler: CallerHandler): NodeHandler {
  return (request, response) => {
    let entry: Entry;
    try {
      entry = enterWith(gate, request, undefined);
    } catch (error) {
      const { code, rawMessage } = ConnectError.from(error);
      const status = statuses.get(code) ?? 500;
      // A body that nobody reads would block the connection for the next request.
      request.resume();
      return respondPlain(response, status, rawMessage, status === 401 ? { "www-authenticate": "Bearer" } : {});
    }
    response.once("close", entry.leave);
    handler(request, response, entry.caller);
  };
}

/** Brings a request to a gate. @param service full name of the service; undefined for what is no RPC. */
export function enterWith(gate: Gate, request: NodeRequest, service: string | undefined): Entry {
  return gate.enter({ service, authorization: request.headers.authorization, peer: peerOf(request) });
}

/** A token bucket: full at first, one token a request, refilled evenly. */
export interface RateLimit {
  /** Takes a token. Returns 0, or without a token the milliseconds until there is one. */
  take(): number;
}

/** Options of {@link createRateLimit}. */
export interface RateLimitOptions {
  /** Tokens that come back each second, more than 0. */
  readonly perSecond: number;
  /** Tokens that the bucket holds, 1 or more: how many requests may come at once after a pause. */
  readonly burst: number;
  /** Milliseconds of a clock that never goes back. */
  readonly now?: (() => number) | undefined;
}

/** Makes a bucket. */
export function createRateLimit({ perSecond, burst, now = () => performance.now() }: RateLimitOptions): RateLimit {
  let tokens = burst;
  let filledAt = now();
  return {
    take() {
      const at = now();
      tokens = Math.min(burst, tokens + ((at - filledAt) / 1000) * perSecond);
      filledAt = at;
      if (tokens >= 1) {
        tokens--;
        return 0;
      }
      return Math.ceil(((1 - tokens) / perSecond) * 1000);
    },
  };
}
