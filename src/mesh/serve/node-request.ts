import { constants } from "node:http2";
import { invalidArgument } from "../errors/errors.js";
import type { NodeRequest, NodeResponse } from "../port/node-handler.js";

/** Host with an optional port. Stricter than URL, because handlers build links with it. */
const hostAndPort = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]{1,253})(:\d{1,5})?$/i;

/**
 * Return the URL of an RPC request.
 *
 * @throws ConnectError INVALID_ARGUMENT if the authority is invalid.
 */
export function requestUrl(request: NodeRequest, path: string): string {
  const scheme = "encrypted" in request.socket && request.socket.encrypted === true ? "https" : "http";
  const authority = ("authority" in request ? request.authority : undefined) ?? request.headers.host ?? "localhost";
  // Some of these are no host of a URL: `1.2.3.4.5`, or a port above 65,535.
  if (!hostAndPort.test(authority) || !URL.canParse(`${scheme}://${authority}`)) {
    throw invalidArgument("the request's host is not valid");
  }
  return `${scheme}://${authority}${path}`;
}

/**
 * Return the headers of a request, without HTTP/2's pseudo headers.
 *
 * @throws ConnectError INVALID_ARGUMENT if a value is invalid.
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

/** Convert Headers to an object for Node's servers. Only `set-cookie` may have several values. */
export function nodeHeaders(headers: Headers): Record<string, string | string[]> {
  const fields: Record<string, string | string[]> = {};
  headers.forEach((value, name) => {
    fields[name] = value;
  });
  const cookies = fields["set-cookie"] === undefined ? [] : headers.getSetCookie();
  return cookies.length > 0 ? { ...fields, [constants.HTTP2_HEADER_SET_COOKIE]: cookies } : fields;
}

/** Whether the response is closed, so that nothing can be sent. */
export function isClosed(response: NodeResponse): boolean {
  return "stream" in response ? response.stream.destroyed || response.stream.closed : response.destroyed;
}

/** Call back once if the client disconnects or resets the stream before the end of the response. */
export function onDisconnect(response: NodeResponse, disconnected: () => void): void {
  response.once("close", () => {
    // Not the stream's state: Node ends the stream when a client resets it.
    if (!response.writableEnded) {
      disconnected();
    }
  });
}
