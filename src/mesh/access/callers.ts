import { hash } from "node:crypto";
import { Code, type ConnectError, type ContextKey, createContextKey, type HandlerContext } from "@connectrpc/connect";
import { createConnectError } from "../errors/errors.js";

/** Who makes a call. */
export interface Caller {
  /** Its name in the file of callers, or in its certificate. Undefined where nobody has to say who calls. */
  readonly name: string | undefined;
  /** By whom to count calls: the name, or else the address. Different callers never share one. */
  readonly countKey: string;
  /** Whether it is believed for whom it calls: see `callerHeader`. @default false */
  readonly mayNameCallers?: boolean | undefined;
  /** Whether the caller may use an app. */
  mayUse(appId: string): boolean;
}

/** The caller of a call that came over no wire. */
const inProcess: Caller = { name: undefined, countKey: "in process", mayNameCallers: true, mayUse: () => true };

/** Who calls over the wire until a gate has let the caller in: it may use nothing. */
export const nobody: Caller = { name: undefined, countKey: "nobody", mayUse: () => false };

/** Context key under which a server puts the caller. */
export const callerContextKey: ContextKey<Caller> = createContextKey(inProcess, { description: "caller" });

/**
 * Who makes a call, in its handler: `callerOf(context)`.
 *
 * @param context the handler's.
 */
export function callerOf({ values }: Pick<HandlerContext, "values">): Caller {
  return values.get(callerContextKey);
}

/** PERMISSION_DENIED. The app is not named: its id is the caller's text. */
export function appDenied({ name }: Pick<Caller, "name">): ConnectError {
  return createConnectError({
    code: Code.PermissionDenied,
    message: `${name === undefined ? "this caller" : `caller ${name}`} may not use this app`,
  });
}

/** Throws PERMISSION_DENIED unless the caller may use the app. */
export function checkMayUse(caller: Caller, appId: string): void {
  if (!caller.mayUse(appId)) {
    throw appDenied(caller);
  }
}

/**
 * Metadata key by which an app that calls another one for somebody says for whom: that caller's sharing key, so that the called app can share
 * itself fairly among those at the far end. It names nobody and proves nothing: where callers are known, only those whose entry has
 * `mayNameCallers` are believed, and a server that takes whoever calls believes all.
 */
export const callerHeader = "throughline-caller";

const keyPattern = /^[0-9a-f]{32}$/;

/** Whether the header of calls is believed. */
export interface SharingKeyOptions {
  /** True where calls come from apps: callers that may name others are believed. False where nobody is. */
  readonly trustHeader: boolean;
}

/**
 * By whom an app counts a call where it shares itself fairly: 32 hexadecimal digits, a hash of the caller's name or address, or
 * what a trusted `throughline-caller` header says in that form; in another form it is not believed.
 */
export function sharingKeyOf(
  call: Pick<HandlerContext, "values" | "requestHeader">,
  { trustHeader }: SharingKeyOptions,
): string {
  const told = trustHeader && callerOf(call).mayNameCallers === true ? call.requestHeader.get(callerHeader) : null;
  return told !== null && keyPattern.test(told) ? told : hash("sha256", callerOf(call).countKey).slice(0, 32);
}
