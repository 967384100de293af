import { Code } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { type NodeRequest, type NodeResponse, respondPlain } from "../port/node-handler.js";
import { respondFailure } from "./write-response.js";

const message = "unknown service or method";
const status = { "grpc-status": String(Code.Unimplemented), "grpc-message": message };

/**
 * Answer a path that nothing serves: UNIMPLEMENTED in the form of the request's protocol, otherwise 404.
 *
 * gRPC and gRPC-Web get HTTP 200 with the status among the headers, because clients and load balancers take HTTP 404 for a proxy's error.
 * AWS's health check of gRPC targets calls a method that does not exist, and expects this code. Connect gets 404 with its JSON.
 */
export function respondNotFound(request: NodeRequest, response: NodeResponse): void {
  request.resume();
  const protocol = protocolOf(request);
  if (protocol === "connect") {
    const error = { code: codeToString(Code.Unimplemented), message };
    respondHead(response, 404, { "content-type": "application/json" });
    response.end(JSON.stringify(error));
  } else if (protocol === undefined) {
    respondPlain(response, 404, "not found");
  } else if ("stream" in response && protocol === "grpc") {
    respondFailure(new Headers({ "content-type": "application/grpc" }), new Headers(status), response);
  } else {
    const type = protocol === "grpc" ? "application/grpc" : request.headers["content-type"];
    respondHead(response, 200, { "content-type": type ?? "", ...status });
    response.end();
  }
}

/** Protocol of a call by its content type. JSON alone is a call if its path names a service of a package. */
function protocolOf({ method, headers, url = "" }: NodeRequest): "grpc" | "grpc-web" | "connect" | undefined {
  if (method !== "POST") {
    return undefined;
  }
  const type = headers["content-type"] ?? "";
  if (/^application\/grpc(?:[+;]|$)/i.test(type)) {
    return "grpc";
  }
  if (/^application\/grpc-web(?:-text)?(?:[+;]|$)/i.test(type)) {
    return "grpc-web";
  }
  if (/^application\/(?:connect\+|proto(?:;|$))/i.test(type)) {
    return "connect";
  }
  const isJson = /^application\/json(?:;|$)/i.test(type);
  const isPath = /^\/\w+(?:\.\w+)+\/\w+(?:\?|$)/.test(url);
  return isJson && (isPath || headers["connect-protocol-version"] !== undefined) ? "connect" : undefined;
}

function respondHead(response: NodeResponse, code: number, fields: Readonly<Record<string, string>>): void {
  // The union of two overloaded methods cannot be called as one.
  if ("stream" in response) {
    response.writeHead(code, fields);
  } else {
    response.writeHead(code, fields);
  }
}
