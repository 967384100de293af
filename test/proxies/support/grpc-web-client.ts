import * as grpc from "@grpc/grpc-js";
import { Agent, fetch } from "undici";
import { CallFailure, type CallOptions, type Client, codeOfHttpStatus, type Server } from "./client.js";
import { envelopesOf, toEnvelope } from "./envelopes.js";
import { methodOf, violatedRules } from "./methods.js";

/** gRPC-Web by Node's fetch, over HTTP/1.1. */
export function openGrpcWebClient({ port, ca }: Server): Client {
  const dispatcher = new Agent({ connect: { ca } });

  async function* stream(path: string, request: object, { signal, timeoutMs }: CallOptions = {}) {
    const method = methodOf(path);
    const headers = {
      "content-type": "application/grpc-web+proto",
      "x-grpc-web": "1",
      ...(timeoutMs !== undefined && { "grpc-timeout": `${timeoutMs}m` }),
    };
    const body = toEnvelope(method.serialize(request));
    const init = { method: "POST", headers, body, dispatcher, ...(signal && { signal }) };
    const response = await fetch(`https://localhost:${port}${method.path}`, init);
    if (response.status !== 200) {
      throw new CallFailure(codeOfHttpStatus(response.status), `HTTP ${response.status}`);
    }
    const trailers = new Map(response.headers.entries());
    for await (const { flags, data } of envelopesOf(response.body)) {
      if (flags === trailersFlag) {
        for (const line of data.toString("latin1").trim().split("\r\n")) {
          const colon = line.indexOf(":");
          trailers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
        }
      } else {
        yield method.deserialize(data);
      }
    }
    const status = trailers.get("grpc-status");
    if (status !== "0") {
      const details = Buffer.from(trailers.get("grpc-status-details-bin") ?? "", "base64");
      throw new CallFailure(
        status === undefined ? "UNAVAILABLE" : (grpc.status[Number(status)] ?? ""),
        decodeURIComponent(trailers.get("grpc-message") ?? "no status"),
        violatedRules(details),
      );
    }
  }

  return {
    name: "gRPC-Web (fetch)",
    async unary(path, request, options) {
      for await (const message of stream(path, request, options)) {
        return message;
      }
      throw new Error("no message");
    },
    stream,
    close: () => void dispatcher.destroy(),
  };
}

const trailersFlag = 0x80;
