import { type NodeRequest, type NodeResponse, respondPlain } from "../mesh/port/node-handler.js";
import type { AppState } from "./lifecycle.js";

/** Path that answers 200 for as long as the process can answer at all, whatever its state. */
export const livenessPath = "/healthz";

/** Path that answers 200 while the app takes calls, and 503 while it does not. */
export const readinessPath = "/readyz";

/**
 * Answers the probes of those that cannot ask grpc.health.v1, with the app's state as text, and says whether it did: `GET /healthz` and
 * `GET /readyz`. What the app needs being away is a matter of readiness: starting it again would not bring that back sooner.
 */
export function createProbeRoute(stateOf: () => AppState): (request: NodeRequest, response: NodeResponse) => boolean {
  return (request, response) => {
    const path = request.url?.split("?", 1)[0];
    if (path !== livenessPath && path !== readinessPath) {
      return false;
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      respondPlain(response, 405, "probes are asked by GET", { allow: "GET, HEAD" });
      return true;
    }
    const state = stateOf();
    const ok = path === livenessPath || state === "serving";
    respondPlain(response, ok ? 200 : 503, state, { "cache-control": "no-store" });
    return true;
  };
}
