import { createHash } from "node:crypto";
import type { HandlerContext } from "@connectrpc/connect";
import { callerOf } from "./callers.js";

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
  return told !== null && keyPattern.test(told)
    ? told
    : createHash("sha256").update(callerOf(call).countKey).digest("hex").slice(0, 32);
}
