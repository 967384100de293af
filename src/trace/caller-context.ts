import { type Context, type Link, ROOT_CONTEXT, type TextMapPropagator, trace } from "@opentelemetry/api";
import { type RemoteParent, readRemoteParent } from "../otelconnect/remote-parent.js";
import { type Carrier, extractCarrier } from "./carrier.js";

/** What a caller said about the trace. */
export interface CallerContext {
  /** Parent for the server's span: with a remote span in it, or without one, which makes a root. */
  readonly parent: Context;
  /** Links for the server's span. */
  readonly links: readonly Link[];
}

export interface CallerContextOptions {
  readonly propagator: TextMapPropagator;
  /** Headers of the call. */
  readonly header: Headers;
  readonly policy: RemoteParent;
  /** Carrier out of the request's body; who reads one trusts it. Where it names a valid parent, headers do not count. */
  readonly carrier?: Carrier;
}

/**
 * Finds the parent of a server's span: the first valid one of body carrier, headers (as the policy says), none. It starts from the
 * root context and not from the active one: with two services in one process, what is active is another service's span.
 */
export function readCallerContext({ propagator, header, policy, carrier }: CallerContextOptions): CallerContext {
  const base = carrier === undefined ? ROOT_CONTEXT : extractCarrier(propagator, carrier);
  if (trace.getSpanContext(base) !== undefined) {
    return { parent: base, links: [] };
  }
  return readRemoteParent(propagator, header, policy, base);
}
