import type { TestContext } from "node:test";
import { type DescMessage, type DescMethod, fromJson, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { ImagePipelineService } from "../../../src/gen/throughline/v1/pipeline_pb.js";
import { TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { connectHttp2, envelope, http1, http2Request, type RawResponse } from "../../mesh/support/raw-http.js";

/** The contract's rpcs. */
export const rpcs = [
  ImagePipelineService.method.generate,
  ImagePipelineService.method.generateStream,
  TextToImageWorkerService.method.infer,
  TextToImageWorkerService.method.inferStream,
] as const satisfies DescMethod[];
export type Rpc = (typeof rpcs)[number];

export const isStream = ({ methodKind }: Rpc): boolean => methodKind === "server_streaming";
export const isPipelines = ({ parent }: Rpc): boolean => parent === ImagePipelineService;

/** A protocol with an encoding. */
export interface Wire {
  readonly name: string;
  readonly json: boolean;
  readonly protocol: "connect" | "grpc" | "grpc-web";
}

export const wires: readonly Wire[] = [
  { name: "connect, json", json: true, protocol: "connect" },
  { name: "connect, binary", json: false, protocol: "connect" },
  { name: "grpc, binary", json: false, protocol: "grpc" },
  { name: "grpc, json", json: true, protocol: "grpc" },
  { name: "grpc-web, binary", json: false, protocol: "grpc-web" },
];

/** What came back: the code by its name in Connect, or `ok`, and all bytes, headers among them. */
export interface Answer {
  readonly code: string;
  readonly text: string;
}

/** The message of an rpc around a request. */
export function messageOf(rpc: Rpc, request: JsonObject): JsonObject {
  return isStream(rpc) ? { request } : request;
}

/** A message in the encoding of a wire. */
export function encode(rpc: Rpc, wire: Wire, message: JsonObject): Buffer {
  const schema: DescMessage = rpc.input;
  return wire.json ? Buffer.from(JSON.stringify(message)) : Buffer.from(toBinary(schema, fromJson(schema, message)));
}

/** Sends the bytes of one message, whatever they are, and reads the answer to its end. */
export async function send(
  t: Pick<TestContext, "after">,
  url: string,
  { rpc, wire, body, timeoutMs }: { rpc: Rpc; wire: Wire; body: Uint8Array; timeoutMs?: number | undefined },
): Promise<Answer> {
  const path = `/${rpc.parent.typeName}/${rpc.name}`;
  const framed = wire.protocol !== "connect" || isStream(rpc) ? envelope(body) : body;
  const headers = headersOf(rpc, wire, timeoutMs);
  if (wire.protocol !== "grpc") {
    // A server that closes before a rejected body has come could take its answer along.
    return answerOf(await http1(url, path, { headers: { ...headers, connection: "keep-alive" }, body: framed }));
  }
  const session = connectHttp2(t, url);
  try {
    return answerOf(await http2Request(session, path, { headers, body: framed }));
  } finally {
    session.destroy();
  }
}

/** Headers of a request. */
export function headersOf(rpc: Rpc, { json, protocol }: Wire, timeoutMs: number | undefined): Record<string, string> {
  const encoding = json ? "json" : "proto";
  if (protocol === "connect") {
    return {
      "content-type": `application/${isStream(rpc) ? "connect+" : ""}${encoding}`,
      "connect-protocol-version": "1",
      ...(timeoutMs !== undefined && { "connect-timeout-ms": `${timeoutMs}` }),
    };
  }
  return {
    "content-type": `application/${protocol}+${encoding}`,
    ...(protocol === "grpc" && { te: "trailers" }),
    ...(timeoutMs !== undefined && { "grpc-timeout": `${timeoutMs}m` }),
  };
}

const grpcCodes =
  "ok,canceled,unknown,invalid_argument,deadline_exceeded,not_found,already_exists,permission_denied,resource_exhausted,failed_precondition,aborted,out_of_range,unimplemented,internal,unavailable,data_loss,unauthenticated".split(
    ",",
  );

function answerOf({ status, headers, trailers, text }: RawResponse): Answer {
  const ofGrpc = trailers["grpc-status"] ?? headers["grpc-status"] ?? /grpc-status: *(\d+)/i.exec(text)?.[1];
  const ofConnect = /"code":"(\w+)"/.exec(text)?.[1];
  const code =
    ofGrpc === undefined ? (ofConnect ?? (status === 200 ? "ok" : `http ${status}`)) : grpcCodes[Number(ofGrpc)];
  return { code: code ?? "none", text: `${JSON.stringify(headers)}\n${text}\n${JSON.stringify(trailers)}` };
}
