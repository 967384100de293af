import type { DescService } from "@bufbuild/protobuf";
import { Code, type Interceptor } from "@connectrpc/connect";
import { createConnectError } from "../errors/errors.js";
import { isLoopbackName } from "../port/listen-exposure.js";
import type { NodeRequest } from "../port/node-handler.js";

/** Who may reach a server, as far as the name matters by which they ask for it. */
export interface HostCheckOptions {
  /** Where it listens. */
  readonly host: string;
  /** Whether it may be asked for by any name: it knows its callers, and a stranger's page has none of their keys; or it is said to be open. */
  readonly anyHost: boolean;
  /** Base URL by which it may be asked for too. */
  readonly publicUrl?: string | undefined;
}

/** Says whether a server may be asked for by the host of a URL, such as `localhost` or `[::1]`. */
export type HostCheck = (hostname: string) => boolean;

/** What is said to who is rejected. */
export const foreignHostMessage =
  "an open server on loopback shows this to who asks for it by localhost, or by the host of --public-url, and by no other name";

/**
 * Of an open server on loopback: it is asked for by a name of loopback. A browser on the same machine can be led to it under a name of somebody
 * else's, whose page could then read all (DNS rebinding). Other servers may be asked for by any name.
 */
export function createHostCheck({ host, anyHost, publicUrl }: HostCheckOptions): HostCheck {
  if (anyHost || !isLoopbackName(host)) {
    return () => true;
  }
  const publicHost = publicUrl && new URL(publicUrl).hostname;
  return (hostname) => isLoopbackName(hostname) || hostname === publicHost;
}

/** Rejects calls of these services, PERMISSION_DENIED, that are sent to another host. */
export function createHostInterceptor(services: readonly DescService[], check: HostCheck): Interceptor {
  const checked = new Set(services.map((service) => service.typeName));
  return (next) => (request) => {
    if (checked.has(request.service.typeName) && !check(new URL(request.url).hostname)) {
      throw createConnectError({ code: Code.PermissionDenied, message: foreignHostMessage });
    }
    return next(request);
  };
}

/** Whether what is no RPC was sent to a host that the check allows. */
export function hasAllowedHost(request: NodeRequest, check: HostCheck): boolean {
  const authority = ("authority" in request ? request.authority : undefined) ?? request.headers.host ?? "localhost";
  const url = `http://${authority}`;
  return URL.canParse(url) && check(new URL(url).hostname);
}
