import { hash } from "node:crypto";
import { Code, type ConnectError, type ContextKey, createContextKey, type HandlerContext } from "@connectrpc/connect";
import { createConnectError } from "../errors/errors.js";
import type { RejectionReason } from "./rejections.js";

/** Caller of an RPC. */
export interface Caller {
  /** Name from the callers file or the certificate. Undefined for anonymous clients. */
  readonly name: string | undefined;
  /** Key for counting calls: the name, or else the address. Unique per caller. */
  readonly countKey: string;
  /** Whether its `callerHeader` is trusted. @default false */
  readonly mayNameCallers?: boolean | undefined;
  /** IP address of its connection. Undefined in-process, and once the connection is closed. */
  readonly address?: string | undefined;
  /** Whether the caller may use an app. */
  mayUse(appId: string): boolean;
  /** Whether the caller, a worker, may register as a replica of an app. Looked up at each call: a reload changes it. @default no app */
  mayRegister?(appId: string): boolean;
  /** Reports to the server's log that this call is rejected after its admission. @default nobody logs it */
  readonly reportRejection?: ((reason: RejectionReason) => void) | undefined;
}

/** Caller of in-process calls. */
const inProcess: Caller = { name: undefined, countKey: "in process", mayNameCallers: true, mayUse: () => true };

/** Caller of a call that is not admitted yet. It may use no app. */
export const anonymousCaller: Caller = { name: undefined, countKey: "anonymous", mayUse: () => false };

/** Context key of the caller, set by the server. */
export const callerContextKey: ContextKey<Caller> = createContextKey(inProcess, { description: "caller" });

/**
 * Return the caller of a call in its handler: `callerOf(context)`.
 */
export function callerOf({ values }: Pick<HandlerContext, "values">): Caller {
  return values.get(callerContextKey);
}

/** PERMISSION_DENIED. The app id is omitted because it is caller input. */
export function appDenied({ name }: Pick<Caller, "name">): ConnectError {
  return createConnectError({
    code: Code.PermissionDenied,
    message: `${name === undefined ? "this caller" : `caller ${name}`} may not use this app`,
  });
}

/** Reports a caller that may not use the app to the server's log. @throws ConnectError PERMISSION_DENIED for such a caller. */
export function checkMayUse(caller: Caller, appId: string): void {
  if (!caller.mayUse(appId)) {
    caller.reportRejection?.("app_not_permitted");
    throw appDenied(caller);
  }
}

/**
 * Metadata key for the fairness key of the original caller, set by an app that calls another one on its behalf.
 *
 * The value is a hash and no credential. A server with a callers file trusts it only from callers with `mayNameCallers`; a server without
 * access control trusts it from every client.
 */
export const callerHeader = "throughline-caller";

const keyPattern = /^[0-9a-f]{32}$/;

/** Options of {@link fairnessKeyOf}. */
export interface FairnessKeyOptions {
  /** Whether to use `throughline-caller` of callers with `mayNameCallers`. False: always ignore it. */
  readonly trustHeader: boolean;
}

/**
 * Return the key for fair queuing: 32 hexadecimal digits, a hash of the caller's name or address. A trusted `throughline-caller` header of
 * that form replaces it; any other form is ignored.
 */
export function fairnessKeyOf(
  call: Pick<HandlerContext, "values" | "requestHeader">,
  { trustHeader }: FairnessKeyOptions,
): string {
  const forwarded = trustHeader && callerOf(call).mayNameCallers === true ? call.requestHeader.get(callerHeader) : null;
  return forwarded !== null && keyPattern.test(forwarded)
    ? forwarded
    : hash("sha256", callerOf(call).countKey).slice(0, 32);
}
