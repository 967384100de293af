import { createContextValues } from "@connectrpc/connect";
import type { UniversalServerRequest } from "@connectrpc/connect/protocol";
import { canceled, invalidArgument } from "../errors/errors.js";
import type { NodeRequest, NodeResponse } from "../port/node-handler.js";

/** Pseudo headers and other names that the Headers class does not take. */
const isOrdinary = (name: string): boolean => !name.startsWith(":");

/**
 * Turns a Node request into the form that Connect's handlers take. Its signal aborts with CANCELED when the client leaves before the
 * response is complete. Throws INVALID_ARGUMENT where the request has no usable authority or header.
 */
export function serverRequestFromNode(request: NodeRequest, response: NodeResponse): UniversalServerRequest {
  const left = new AbortController();
  response.once("close", () => {
    if (!response.writableEnded) {
      left.abort(canceled());
    }
  });
  return {
    httpVersion: request.httpVersion,
    method: request.method ?? "",
    url: urlOf(request),
    header: headersOf(request),
    // Breaking off must not destroy the request: that would take the connection, and the answer, with it.
    body: request.iterator({ destroyOnReturn: false }),
    signal: left.signal,
    contextValues: createContextValues(),
  };
}

/** A name, an IPv4 or a bracketed IPv6 address, with or without a port. URL takes more, and handlers make links of it. */
const hostAndPort = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]{1,253})(:\d{1,5})?$/i;

function urlOf(request: NodeRequest): string {
  const scheme = "encrypted" in request.socket && request.socket.encrypted === true ? "https" : "http";
  const authority = ("authority" in request ? request.authority : undefined) ?? request.headers.host ?? "localhost";
  if (!hostAndPort.test(authority)) {
    throw invalidArgument("the request's host is not valid");
  }
  try {
    return new URL(request.url ?? "/", `${scheme}://${authority}`).toString();
  } catch (error) {
    throw invalidArgument("the request's path is not valid", error);
  }
}

function headersOf(request: NodeRequest): Headers {
  const headers = new Headers();
  try {
    for (const [name, value] of Object.entries(request.headers)) {
      if (value === undefined || !isOrdinary(name)) {
        continue;
      }
      for (const each of Array.isArray(value) ? value : [value]) {
        headers.append(name, each);
      }
    }
  } catch (error) {
    throw invalidArgument("a request header is not valid", error);
  }
  return headers;
}
