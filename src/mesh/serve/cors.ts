import { cors } from "@connectrpc/connect";
import type { NodeRequest, NodeResponse } from "../port/node-handler.js";

/** Which pages of other origins may call. Pages of the same origin always may. */
export interface CorsOptions {
  /**
   * Origins such as `http://localhost:5173`. `:*` in place of the port means any port (`http://localhost:*`), and `*` alone any
   * origin.
   */
  readonly origins: readonly string[];
}

/** A caller's key and the trace context may come from a page too. */
const allowedHeaders = [...cors.allowedHeaders, "authorization", "traceparent", "tracestate", "baggage"].join(", ");
/** A page learns the trace of its call too. */
const exposedHeaders = [...cors.exposedHeaders, "traceresponse"].join(", ");
/** How long a browser may remember a preflight: two hours, the most that Chromium takes. */
const maxAgeSeconds = 7_200;

/**
 * Sets the CORS headers of a response and answers preflights. Returns true if it has answered.
 *
 * @param options undefined: no origin is allowed, and browsers keep other pages out.
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
    response.setHeader("access-control-allow-methods", cors.allowedMethods.join(", "));
    response.setHeader("access-control-allow-headers", allowedHeaders);
    response.setHeader("access-control-max-age", String(maxAgeSeconds));
  }
  response.statusCode = 204;
  response.end();
  return true;
}

function matches(pattern: string, origin: string): boolean {
  if (pattern === "*" || pattern === origin) {
    return true;
  }
  return pattern.endsWith(":*") && origin.replace(/:\d+$/, "") === pattern.slice(0, -2);
}
