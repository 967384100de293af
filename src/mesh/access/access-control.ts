import { Code, ConnectError } from "@connectrpc/connect";
import { createConnectError, type ErrorReason, errorInfo, retryInfo } from "../errors/errors.js";
import { addressGroup } from "../port/listen-addresses.js";
import { type NodeHandler, type NodeRequest, type NodeResponse, respondPlain } from "../port/node-handler.js";
import type { Reloaded } from "../tls/reloaded-files.js";
import type { CallerDirectory, CallerEntry } from "./caller-directory.js";
import { type Caller, checkMayUse } from "./callers.js";
import { type Peer, peerOf } from "./peer.js";
import type { AccessRejection, AccessTarget, OnAccessRejected, RejectionReason } from "./rejections.js";

/** Properties of a call that are known before its body is read. */
export interface IncomingCall extends AccessTarget {
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
  /** Reports a request that is rejected for another reason. */
  report(call: Omit<AccessRejection, "peer">, peer: Peer): void;
}

/** Options of {@link createAccessControl}. */
export interface AccessControlOptions {
  /** Known callers. Absent: every client is admitted, identified by its address. */
  readonly callers?: Reloaded<CallerDirectory> | undefined;
  /** Services without access control, such as health checks. @default none */
  readonly openServices?: readonly string[] | undefined;
  /** App id of the server: only callers that may use it are admitted. Absent: the handler checks apps. */
  readonly appId?: string | undefined;
  /** Receives each rejection. @default they are not logged */
  readonly onRejected?: OnAccessRejected | undefined;
  /** Monotonic clock, in milliseconds. @default performance.now */
  readonly now?: (() => number) | undefined;
}

/** Retry delay of a caller at its concurrency limit, in milliseconds. The end of its calls cannot be predicted. */
const concurrencyRetryMs = 1_000;

/** Create the access control of a server. Counts survive a reload of the callers: one count per caller name. */
export function createAccessControl(options: AccessControlOptions): AccessControl {
  const { callers, openServices = [], appId, onRejected = () => {}, now } = options;
  const open = new Set(openServices);
  const running = new Map<string, number>();
  const rates = new Map<string, { readonly limits: string; readonly rate: RateLimit }>();

  function takeToken({ name, rate }: CallerEntry, { reportRejection }: Caller): void {
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
      reportRejection?.("rate_limit");
      throw exhausted(`caller ${name} is over its rate limit of ${rate.label}`, "RATE_LIMIT", waitMs);
    }
  }

  function acquireSlot({ name, maxConcurrent }: CallerEntry, { reportRejection }: Caller): () => void {
    if (maxConcurrent === undefined) {
      return () => {};
    }
    const count = running.get(name) ?? 0;
    if (count >= maxConcurrent) {
      reportRejection?.("concurrency_limit");
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
  function find({ service, authorization, peer, ...target }: IncomingCall): { caller: Caller; entry?: CallerEntry } {
    const reporter =
      (caller?: string, certificate?: string) =>
      (reason: RejectionReason): void =>
        onRejected({ reason, ...defined({ caller, certificate, peer: peer.address, ...target }) });
    if (callers === undefined || (service !== undefined && open.has(service))) {
      const { address } = peer;
      const countKey = `address ${addressGroup(address)}`;
      const isOpen = callers === undefined;
      const caller: Caller = {
        name: undefined,
        countKey,
        address,
        mayNameCallers: isOpen,
        mayUse: () => true,
        // Where nobody is authenticated, the registry restricts the addresses.
        mayRegister: () => isOpen,
        reportRejection: reporter(),
      };
      return { caller };
    }
    const credentials = { authorization, certificateNames: peer.certificateNames };
    const entry = callers.current.find(credentials);
    if (entry === undefined) {
      const [certificate] = peer.certificateNames;
      const hasNone = authorization === undefined && certificate === undefined;
      reporter(undefined, certificate)(hasNone ? "no_credentials" : "unknown_credentials");
      throw createConnectError({
        code: Code.Unauthenticated,
        message: "authentication is required: send a valid key as authorization: Bearer, or a client certificate",
        metadata: { "www-authenticate": "Bearer" },
      });
    }
    const { name, mayUse, mayNameCallers } = entry;
    const caller: Caller = {
      name,
      countKey: `caller ${name}`,
      address: peer.address,
      mayNameCallers,
      mayUse,
      // A registration lasts for days: a key that was revoked meanwhile must not renew it.
      mayRegister: (app) => callers.current.find(credentials)?.mayRegister?.(app) === true,
      reportRejection: reporter(name),
    };
    if (appId !== undefined) {
      checkMayUse(caller, appId);
    }
    return { caller, entry };
  }

  return {
    identify: (call) => find(call).caller,
    report: ({ reason, ...rejection }, peer) =>
      onRejected({ reason, ...defined({ ...rejection, peer: peer.address }) }),
    admit(call) {
      const { caller, entry } = find(call);
      if (entry === undefined) {
        return { caller, release: () => {} };
      }
      // The slot first: a call without one must not use a rate-limit token.
      const release = acquireSlot(entry, caller);
      try {
        takeToken(entry, caller);
      } catch (error) {
        release();
        throw error;
      }
      return { caller, release };
    },
  };
}

/** The fields that have a value. */
function defined<Fields extends object>(fields: Fields): Partial<Fields> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<Fields>;
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

/**
 * Wrap a handler with access control. Rejections are 401, 403 or 429 in plain text.
 *
 * @param route of the handler, for the log of rejections.
 */
export function withAccessControl(accessControl: AccessControl, route: string, handler: CallerHandler): NodeHandler {
  return (request, response) => {
    let admitted: AdmittedCall;
    try {
      admitted = admitRequest(accessControl, request, undefined, { route });
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

/**
 * Admit a Node request.
 *
 * @param service full name of the called service; undefined for a request that is no RPC.
 * @param target for the log of rejections.
 */
export function admitRequest(
  accessControl: AccessControl,
  request: NodeRequest,
  service: string | undefined,
  target: AccessTarget,
): AdmittedCall {
  const { authorization } = request.headers;
  return accessControl.admit({ service, authorization, peer: peerOf(request), ...target });
}

/** Authenticate a Node request that is no RPC, without the caller's limits. */
export function identifyRequest(accessControl: AccessControl, request: NodeRequest, target: AccessTarget): Caller {
  const { authorization } = request.headers;
  return accessControl.identify({ service: undefined, authorization, peer: peerOf(request), ...target });
}

/** Report a Node request that is rejected for the host or the page that it names. */
export function reportForeignHost(accessControl: AccessControl, request: NodeRequest, target: AccessTarget): void {
  accessControl.report({ reason: "foreign_host", ...target }, peerOf(request));
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
