import { Code, ConnectError } from "@connectrpc/connect";
import { type NodeHandler, type NodeRequest, type NodeResponse, respondPlain } from "../port/node-handler.js";
import type { Caller } from "./callers.js";
import type { Entry, Gate } from "./gate.js";
import { peerOf } from "./peer.js";

const statuses = new Map([
  [Code.Unauthenticated, 401],
  [Code.PermissionDenied, 403],
  [Code.ResourceExhausted, 429],
]);

/** Answers a request of a caller who was let in. */
export type CallerHandler = (request: NodeRequest, response: NodeResponse, caller: Caller) => void;

/** Puts a gate before what is no RPC: 401, 403 or 429 in plain text for whom it does not let in. */
export function gateHandler(gate: Gate, handler: CallerHandler): NodeHandler {
  return (request, response) => {
    let entry: Entry;
    try {
      entry = enterWith(gate, request, undefined);
    } catch (error) {
      const { code, rawMessage } = ConnectError.from(error);
      const status = statuses.get(code) ?? 500;
      // A body that nobody reads would block the connection for the next request.
      request.resume();
      return respondPlain(response, status, rawMessage, status === 401 ? { "www-authenticate": "Bearer" } : {});
    }
    response.once("close", entry.leave);
    handler(request, response, entry.caller);
  };
}

/** Brings a request to a gate. @param service full name of the service; undefined for what is no RPC. */
export function enterWith(gate: Gate, request: NodeRequest, service: string | undefined): Entry {
  return gate.enter({ service, authorization: request.headers.authorization, peer: peerOf(request) });
}
