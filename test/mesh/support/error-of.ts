import { Code, ConnectError } from "@connectrpc/connect";
import { errorFromJsonBytes } from "@connectrpc/connect/protocol-connect";
import type { RawResponse } from "./raw-http.js";

/** The error in a complete response of any protocol. Code 0 where a gRPC response is none. */
export function errorOf(response: RawResponse): ConnectError {
  const status = response.headers["grpc-status"] ?? response.trailers["grpc-status"];
  if (status !== undefined) {
    const message = response.headers["grpc-message"] ?? response.trailers["grpc-message"] ?? "";
    return new ConnectError(decodeURIComponent(String(message)), Number(status));
  }
  const type = String(response.headers["content-type"]);
  if (type.startsWith("application/grpc-web")) {
    const trailer = new Map(lastEnvelope(response.body).toString().trim().split("\r\n").map(splitHeader));
    return new ConnectError(decodeURIComponent(trailer.get("grpc-message") ?? ""), Number(trailer.get("grpc-status")));
  }
  const none = new ConnectError(`no error: HTTP status ${response.status}`, Code.Unknown);
  if (type.startsWith("application/connect+")) {
    const end: unknown = JSON.parse(lastEnvelope(response.body).toString());
    const error = typeof end === "object" && end !== null && "error" in end ? end.error : undefined;
    return errorFromJsonBytes(Buffer.from(JSON.stringify(error ?? {})), undefined, none);
  }
  return errorFromJsonBytes(response.body, undefined, none);
}

function lastEnvelope(body: Buffer): Buffer {
  let last = body;
  for (let rest = body; rest.length >= 5; rest = rest.subarray(5 + rest.readUInt32BE(1))) {
    last = rest.subarray(5, 5 + rest.readUInt32BE(1));
  }
  return last;
}

function splitHeader(line: string): [name: string, value: string] {
  const colon = line.indexOf(":");
  return [line.slice(0, colon), line.slice(colon + 1).trim()];
}
