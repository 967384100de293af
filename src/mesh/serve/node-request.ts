import { constants } from "node:http2";
import { invalidArgument } from "../errors/errors.js";
import type { NodeRequest, NodeResponse } from "../port/node-handler.js";

/** A name, an IPv4 or a bracketed IPv6 address, with or without a port. URL takes more, and handlers make links of it. */
const hostAndPort = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]{1,253})(:\d{1,5})?$/i;

/**
 * The URL of a request to an RPC.
 *
 * @throws ConnectError INVALID_ARGUMENT where the request has no usable authority.
 */
export function requestUrl(request: NodeRequest, path: string): string {
  const scheme = "encrypted" in request.socket && request.socket.encrypted === true ? "https" : "http";
  const authority = ("authority" in request ? request.authority : undefined) ?? request.headers.host ?? "localhost";
  if (!hostAndPort.test(authority)) {
    throw invalidArgument("the request's host is not valid");
  }
  return `${scheme}://${authority}${path}`;
}

/**
 * The headers of a request, without HTTP/2's pseudo headers.
 *
 * @throws ConnectError INVALID_ARGUMENT where a value is none that Headers takes.
 */
export function requestHeaders(request: NodeRequest): Headers {
  const headers = new Headers();
  try {
    for (const [name, value] of Object.entries(request.headers)) {
      if (value === undefined || name.startsWith(":")) {
        continue;
      }
      if (typeof value === "string") {
        headers.append(name, value);
      } else {
        for (const each of value) {
          headers.append(name, each);
        }
      }
    }
  } catch (error) {
    throw invalidArgument("a request header is not valid", error);
  }
  return headers;
}

/** Turns Headers into the object that Node's servers take. Only `set-cookie` may stand more than once. */
export function nodeHeaders(headers: Headers): Record<string, string | string[]> {
  const fields: Record<string, string | string[]> = {};
  headers.forEach((value, name) => {
    fields[name] = value;
  });
  const cookies = fields["set-cookie"] === undefined ? [] : headers.getSetCookie();
  return cookies.length > 0 ? { ...fields, [constants.HTTP2_HEADER_SET_COOKIE]: cookies } : fields;
}

/** Whether the client cannot receive any more of the response. */
export function isClosed(response: NodeResponse): boolean {
  return "stream" in response ? response.stream.destroyed || response.stream.closed : response.destroyed;
}

/** Calls back once when the client disconnects, or resets the stream, before the response was ended. */
export function onDisconnect(response: NodeResponse, disconnected: () => void): void {
  response.once("close", () => {
    // The response's own word: Node ends the stream below when a client resets it.
    if (!response.writableEnded) {
      disconnected();
    }
  });
}
