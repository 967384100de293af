import type { DescService } from "@bufbuild/protobuf";
import { Code, type Interceptor } from "@connectrpc/connect";
import { createConnectError } from "../errors/errors.js";
import { isLoopbackName } from "../port/listen-exposure.js";
import type { NodeRequest } from "../port/node-handler.js";
import { callerOf } from "./callers.js";

/** Options of {@link createHostCheck}. */
export interface HostCheckOptions {
  /** Name or address that the server listens on. */
  readonly host: string;
  /** Whether any host name is allowed: the server authenticates callers, or was configured as open. */
  readonly anyHost: boolean;
  /** Base URL whose host is allowed too. */
  readonly publicUrl?: string | undefined;
}

/** Whether a URL's host, such as `localhost` or `[::1]`, is allowed. */
export type HostCheck = (hostname: string) => boolean;

/** Message of a rejection by host name. */
export const foreignHostMessage =
  "this server has no access control, so it accepts only requests to localhost or to the host of --public-url";

/**
 * Create the host check of a server. An unauthenticated server on loopback allows loopback names only, against DNS rebinding: a foreign page
 * in a browser on the same machine could otherwise read its responses. Other servers allow any name.
 */
export function createHostCheck({ host, anyHost, publicUrl }: HostCheckOptions): HostCheck {
  if (anyHost || !isLoopbackName(host)) {
    return () => true;
  }
  const publicHost = publicUrl && new URL(publicUrl).hostname;
  return (hostname) => isLoopbackName(hostname) || hostname === publicHost;
}

/** Create an interceptor that rejects calls of these services to a disallowed host with PERMISSION_DENIED. */
export function createHostInterceptor(services: readonly DescService[], check: HostCheck): Interceptor {
  const checked = new Set(services.map((service) => service.typeName));
  return (next) => (request) => {
    if (checked.has(request.service.typeName) && !check(new URL(request.url).hostname)) {
      callerOf({ values: request.contextValues }).reportRejection?.("foreign_host");
      throw createConnectError({ code: Code.PermissionDenied, message: foreignHostMessage });
    }
    return next(request);
  };
}

/** Whether a request that is no RPC was sent to an allowed host. */
export function hasAllowedHost(request: NodeRequest, check: HostCheck): boolean {
  const authority = ("authority" in request ? request.authority : undefined) ?? request.headers.host ?? "localhost";
  const url = `http://${authority}`;
  return URL.canParse(url) && check(new URL(url).hostname);
}
