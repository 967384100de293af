import { Code, ConnectError } from "@connectrpc/connect";
import { createConnectError, type ErrorReason, errorInfo, retryInfo } from "../errors/errors.js";
import { addressGroup } from "../port/listen-addresses.js";
import { type NodeHandler, type NodeRequest, type NodeResponse, respondPlain } from "../port/node-handler.js";
import type { Reloaded } from "../tls/reloaded-files.js";
import type { CallerDirectory, CallerEntry } from "./caller-directory.js";
import { appDenied, type Caller } from "./callers.js";
import { type Peer, peerOf } from "./peer.js";

/** Properties of a call that are known before its body is read. */
export interface IncomingCall {
  /** Full name of the called service; undefined for a request that is no RPC. */
  readonly service: string | undefined;
  /** Value of the `authorization` header. */
  readonly authorization: string | undefined;
  readonly peer: Peer;
}

/** An admitted call. */
export interface AdmittedCall {
  readonly caller: Caller;
  /** Releases the caller's concurrency slot. Call it when the call ends; idempotent. */
  release(): void;
}

/** Authentication, authorization and rate limits, from headers and connection alone: before a body is read. */
export interface AccessControl {
  /** Admits a call. @throws ConnectError UNAUTHENTICATED, PERMISSION_DENIED, or RESOURCE_EXHAUSTED with RetryInfo. */
  admit(call: IncomingCall): AdmittedCall;
  /**
   * Authenticates a call and checks its permission, without its limits: for polls, which a protocol's clients send by themselves.
   *
   * @throws ConnectError UNAUTHENTICATED or PERMISSION_DENIED.
   */
  identify(call: IncomingCall): Caller;
}

/** Options of {@link createAccessControl}. */
export interface AccessControlOptions {
  /** Known callers. Absent: every client is admitted, identified by its address. */
  readonly callers?: Reloaded<CallerDirectory> | undefined;
  /** Services without access control, such as health checks. @default none */
  readonly openServices?: readonly string[] | undefined;
  /** App id of the server: only callers that may use it are admitted. Absent: the handler checks apps. */
  readonly appId?: string | undefined;
  /** Monotonic clock, in milliseconds. @default performance.now */
  readonly now?: (() => number) | undefined;
}

/** Retry delay of a caller at its concurrency limit, in milliseconds. The end of its calls cannot be predicted. */
const concurrencyRetryMs = 1_000;

/** Create the access control of a server. Counts survive a reload of the callers: one count per caller name. */
export function createAccessControl({ callers, openServices = [], appId, now }: AccessControlOptions): AccessControl {
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
      throw exhausted(`caller ${name} is over its rate limit of ${rate.label}`, "RATE_LIMIT", waitMs);
    }
  }

  function acquireSlot({ name, maxConcurrent }: CallerEntry): () => void {
    if (maxConcurrent === undefined) {
      return () => {};
    }
    const count = running.get(name) ?? 0;
    if (count >= maxConcurrent) {
      throw exhausted(
        `caller ${name} is at its limit of ${count} concurrent calls`,
        "CONCURRENCY_LIMIT",
        concurrencyRetryMs,
      );
    }
    running.set(name, count + 1);
    let released = false;
    return () => {
      const others = (running.get(name) ?? 1) - 1;
      if (released) {
        return;
      }
      released = true;
      if (others > 0) {
        running.set(name, others);
      } else {
        running.delete(name);
      }
    };
  }

  /** @returns the caller, and its entry if it is known. */
  function find({ service, authorization, peer }: IncomingCall): { caller: Caller; entry?: CallerEntry } {
    if (callers === undefined || (service !== undefined && open.has(service))) {
      const countKey = `address ${addressGroup(peer.address)}`;
      return { caller: { name: undefined, countKey, mayNameCallers: callers === undefined, mayUse: () => true } };
    }
    const entry = callers.current.find({ authorization, certificateNames: peer.certificateNames });
    if (entry === undefined) {
      throw createConnectError({
        code: Code.Unauthenticated,
        message: "authentication is required: send a valid key as authorization: Bearer, or a client certificate",
        metadata: { "www-authenticate": "Bearer" },
      });
    }
    const { name, mayUse, mayNameCallers } = entry;
    const caller: Caller = { name, countKey: `caller ${name}`, mayNameCallers, mayUse };
    if (appId !== undefined && !caller.mayUse(appId)) {
      throw appDenied(caller);
    }
    return { caller, entry };
  }

  return {
    identify: (call) => find(call).caller,
    admit(call) {
      const { caller, entry } = find(call);
      if (entry === undefined) {
        return { caller, release: () => {} };
      }
      // The slot first: a call without one must not use a rate-limit token.
      const release = acquireSlot(entry);
      try {
        takeToken(entry);
      } catch (error) {
        release();
        throw error;
      }
      return { caller, release };
    },
  };
}

/** The push-back keeps gRPC clients, our balancer included, from trying the next server at once. */
function exhausted(message: string, reason: ErrorReason, waitMs: number): ConnectError {
  return createConnectError({
    code: Code.ResourceExhausted,
    message,
    details: [retryInfo(waitMs), errorInfo(reason)],
    metadata: { "grpc-retry-pushback-ms": String(waitMs) },
  });
}

const statuses = new Map([
  [Code.Unauthenticated, 401],
  [Code.PermissionDenied, 403],
  [Code.ResourceExhausted, 429],
]);

/** Handler of an admitted caller's request that is no RPC. */
export type CallerHandler = (request: NodeRequest, response: NodeResponse, caller: Caller) => void;

/** Wrap a handler with access control. Rejections are 401, 403 or 429 in plain text. */
export function withAccessControl(accessControl: AccessControl, handler: CallerHandler): NodeHandler {
  return (request, response) => {
    let admitted: AdmittedCall;
    try {
      admitted = admitRequest(accessControl, request, undefined);
    } catch (error) {
      const { code, rawMessage } = ConnectError.from(error);
      const status = statuses.get(code) ?? 500;
      // An unread body would block the connection for the next request.
      request.resume();
      return respondPlain(response, status, rawMessage, status === 401 ? { "www-authenticate": "Bearer" } : {});
    }
    response.once("close", admitted.release);
    handler(request, response, admitted.caller);
  };
}

/** Admit a Node request. @param service full name of the called service; undefined for a request that is no RPC. */
export function admitRequest(
  accessControl: AccessControl,
  request: NodeRequest,
  service: string | undefined,
): AdmittedCall {
  return accessControl.admit({ service, authorization: request.headers.authorization, peer: peerOf(request) });
}

/** Authenticate a Node request that is no RPC, without the caller's limits. */
export function identifyRequest(accessControl: AccessControl, request: NodeRequest): Caller {
  const { authorization } = request.headers;
  return accessControl.identify({ service: undefined, authorization, peer: peerOf(request) });
}

/** Token bucket of a rate limit. It starts full; a request takes one token. */
export interface RateLimit {
  /** Takes a token and returns 0. Without a token: returns the milliseconds until there is one. */
  take(): number;
}

/** Options of {@link createRateLimit}. */
export interface RateLimitOptions {
  /** Tokens added each second, above 0. */
  readonly perSecond: number;
  /** Capacity of the bucket, 1 or more: the largest burst of requests. */
  readonly burst: number;
  /** Monotonic clock, in milliseconds. @default performance.now */
  readonly now?: (() => number) | undefined;
}

/** Create a token bucket. */
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
