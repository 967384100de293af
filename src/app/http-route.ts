import type { NodeRequest, NodeResponse } from "../mesh/port/node-handler.js";

/**
 * Handles requests other than RPCs. Returns whether it did.
 *
 * @param log of rejected access, for routes that check host names themselves.
 */
export type HttpRoute = (request: NodeRequest, response: NodeResponse, log: RouteLog) => boolean;

/** Log of rejected access for an {@link HttpRoute}. */
export interface RouteLog {
  /** Logs the request as one to a host name that is not allowed. @param route name in the log, such as `/`. */
  reportForeignHost(route: string): void;
}
