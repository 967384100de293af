import { cors } from "@connectrpc/connect";
import type { HostCheck } from "../access/host-check.js";
import type { NodeRequest, NodeResponse } from "../port/node-handler.js";

/** Cross-origin access. Pages of the same origin always have access. */
export interface CorsOptions {
  /**
   * Allowed origins, such as `http://localhost:5173`. `http://localhost:*` allows any port, `*` any origin.
   */
  readonly origins: readonly string[];
}

/** Connect's headers, the caller's key and the trace context. */
const allowedHeaders = [
  ...cors.allowedHeaders,
  ...["authorization", "idempotency-key", "traceparent", "tracestate", "baggage"],
];
/** Connect's headers, the trace of the call, when to retry, and what fal's client reads. */
const exposedHeaders = [
  ...cors.exposedHeaders,
  ...["traceresponse", "retry-after", "retry-after-ms"],
  ...["x-fal-request-id", "x-fal-error-type", "x-fal-request-timeout-type"],
].join(", ");
/** Connect's methods, and that of fal's cancel. */
const allowedMethods = [...cors.allowedMethods, "PUT"].join(", ");
/** Cache time of a preflight: two hours, Chromium's maximum. */
const maxAgeSeconds = 7_200;

/**
 * Set the CORS headers of a response and answer preflights. Returns true if the request was a preflight.
 *
 * @param options undefined: no other origin is allowed.
 */
export function applyCors(options: CorsOptions | undefined, request: NodeRequest, response: NodeResponse): boolean {
  if (options === undefined) {
    return false;
  }
  const { origin } = request.headers;
  response.setHeader("vary", "origin");
  const allowed = origin !== undefined && options.origins.some((pattern) => matches(pattern, origin));
  if (allowed) {
    response.setHeader("access-control-allow-origin", origin);
    response.setHeader("access-control-expose-headers", exposedHeaders);
  }
  if (request.method !== "OPTIONS" || request.headers["access-control-request-method"] === undefined) {
    return false;
  }
  if (allowed) {
    response.setHeader("access-control-allow-methods", allowedMethods);
    const requested = request.headers["access-control-request-headers"] ?? "";
    response.setHeader("access-control-allow-headers", [...allowedHeaders, ...clientHeaders(requested)].join(", "));
    response.setHeader("access-control-max-age", String(maxAgeSeconds));
  }
  response.statusCode = 204;
  response.end();
  return true;
}

/**
 * Whether a page may call: its origin is allowed, or its host is one of this server's. Requests without `origin` are no page's calls.
 *
 * A page whose name was rebound to loopback counts as of the same origin for its browser, so CORS does not keep it out.
 */
export function isOwnOrAllowedPage(
  options: CorsOptions | undefined,
  hosts: HostCheck,
  { headers: { origin } }: NodeRequest,
): boolean {
  if (origin === undefined || options?.origins.some((pattern) => matches(pattern, origin)) === true) {
    return true;
  }
  return URL.canParse(origin) && hosts(new URL(origin).hostname);
}

/** Those of the requested headers with which OpenAI's and fal's clients describe themselves and their requests. */
function clientHeaders(requested: string): string[] {
  return requested
    .split(",")
    .flatMap((name) => (/^\s*x-(?:stainless|fal)-[a-z-]+\s*$/i.test(name) ? [name.trim()] : []));
}

function matches(pattern: string, origin: string): boolean {
  if (pattern === "*" || pattern === origin) {
    return true;
  }
  return pattern.endsWith(":*") && origin.replace(/:\d+$/, "") === pattern.slice(0, -2);
}
