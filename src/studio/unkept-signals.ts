import type { NodeRequest, NodeResponse } from "../mesh/port/node-handler.js";

const httpPath = /^\/v1\/(?:metrics|logs)$/;
const grpcPath = /^\/opentelemetry\.proto\.collector\.(?:metrics\.v1\.Metrics|logs\.v1\.Logs)Service\/Export$/;

/** An empty message, uncompressed: of an export's answer it says that all was taken. */
const emptyGrpcMessage = Buffer.alloc(5);

/**
 * Takes exports of metrics and of logs, by gRPC and by HTTP, and keeps nothing of them: services may be told of one endpoint for all that they
 * have, and shall not complain of a collector that looks at traces. Says whether the request was one.
 */
export function dropUnkeptSignals(request: NodeRequest, response: NodeResponse): boolean {
  const path = request.url?.split("?", 1)[0] ?? "";
  const isGrpc = grpcPath.test(path);
  if (request.method !== "POST" || (!isGrpc && !httpPath.test(path))) {
    return false;
  }
  request.on("end", () => (isGrpc ? answerGrpc(response) : answerHttp(request, response)));
  request.resume();
  return true;
}

function answerGrpc(response: NodeResponse): void {
  response.setHeader("content-type", "application/grpc+proto");
  response.addTrailers({ "grpc-status": "0" });
  response.end(emptyGrpcMessage);
}

function answerHttp(request: NodeRequest, response: NodeResponse): void {
  const isJson = request.headers["content-type"]?.startsWith("application/json") ?? false;
  response.setHeader("content-type", isJson ? "application/json" : "application/x-protobuf");
  response.end(isJson ? "{}" : "");
}
