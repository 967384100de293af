import { gunzip } from "node:zlib";
import { fromBinary, fromJson, type JsonValue, toBinary, toJsonString } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { Code } from "@connectrpc/connect";
import {
  type ExportTraceServiceRequest,
  ExportTraceServiceRequestSchema,
  type ExportTraceServiceResponse,
  ExportTraceServiceResponseSchema,
} from "../gen/opentelemetry/proto/collector/trace/v1/trace_service_pb.js";
import type { NodeHandler, NodeRequest, NodeResponse } from "../mesh/port/node-handler.js";

export interface OtlpHttpOptions {
  /** Takes an export. */
  readonly receive: (request: ExportTraceServiceRequest) => ExportTraceServiceResponse;
  /** Largest body in bytes, before and after decompression. */
  readonly maxBodyBytes: number;
}

/**
 * Takes traces by OTLP/HTTP: `POST /v1/traces`, Protobuf or JSON, plain or gzip. The answer is in the encoding of the question, an
 * error is a google.rpc.Status. Other paths get 404.
 *
 * @see https://opentelemetry.io/docs/specs/otlp/#otlphttp
 */
export function createOtlpHttpHandler({ receive, maxBodyBytes }: OtlpHttpOptions): NodeHandler {
  return (request, response) => {
    const encoding = encodings.find(({ contentType }) => contentType === contentTypeOf(request));
    const fail = (status: number, message: string) =>
      respond(response, status, (encoding ?? protobuf).failure(message));
    if (request.url?.split("?", 1)[0] !== "/v1/traces") {
      return fail(404, "traces are taken at /v1/traces");
    }
    if (request.method !== "POST") {
      return fail(405, "traces are sent by POST");
    }
    if (encoding === undefined) {
      return fail(415, "the content type is neither application/x-protobuf nor application/json");
    }
    readBody(request, maxBodyBytes).then(
      (body) => {
        if (body.kind !== "body") {
          return fail(body.status, body.message);
        }
        let answer: Answer;
        try {
          answer = encoding.success(receive(encoding.read(body.bytes)));
        } catch {
          return fail(400, "the body is not an ExportTraceServiceRequest");
        }
        respond(response, 200, answer);
      },
      // The client has left in the middle of its request.
      () => response.destroy(),
    );
  };
}

interface Answer {
  readonly contentType: string;
  readonly body: string | Uint8Array;
}

interface Encoding {
  readonly contentType: string;
  read(body: Buffer): ExportTraceServiceRequest;
  success(response: ExportTraceServiceResponse): Answer;
  failure(message: string): Answer;
}

const protobuf: Encoding = {
  contentType: "application/x-protobuf",
  read: (body) => fromBinary(ExportTraceServiceRequestSchema, body),
  success: (response) => ({
    contentType: protobuf.contentType,
    body: toBinary(ExportTraceServiceResponseSchema, response),
  }),
  // google.rpc.Status: 1 is the code, 2 the message.
  failure: (message) => ({
    contentType: protobuf.contentType,
    body: new BinaryWriter()
      .tag(1, WireType.Varint)
      .int32(Code.InvalidArgument)
      .tag(2, WireType.LengthDelimited)
      .string(message)
      .finish(),
  }),
};

const json: Encoding = {
  contentType: "application/json",
  read: (body) => exportFromJson(body.toString()),
  success: (response) => ({
    contentType: json.contentType,
    body: toJsonString(ExportTraceServiceResponseSchema, response),
  }),
  failure: (message) => ({
    contentType: json.contentType,
    body: JSON.stringify({ code: Code.InvalidArgument, message }),
  }),
};

const encodings = [protobuf, json];

function contentTypeOf(request: NodeRequest): string {
  return request.headers["content-type"]?.split(";", 1)[0]?.trim().toLowerCase() ?? "";
}

function respond(response: NodeResponse, status: number, { contentType, body }: Answer): void {
  response.statusCode = status;
  response.setHeader("content-type", contentType);
  response.setHeader("content-length", Buffer.byteLength(body));
  response.end(body);
}

type Body =
  | { readonly kind: "body"; readonly bytes: Buffer }
  | { readonly kind: "rejected"; readonly status: number; readonly message: string };

async function readBody(request: NodeRequest, maxBytes: number): Promise<Body> {
  const tooLarge: Body = { kind: "rejected", status: 413, message: `the body is larger than ${maxBytes} bytes` };
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    // Read on, so that the client gets to the answer, but keep nothing.
    if (size <= maxBytes) {
      chunks.push(chunk);
    } else {
      chunks.length = 0;
    }
  }
  if (size > maxBytes) {
    return tooLarge;
  }
  const bytes = Buffer.concat(chunks);
  const encoding = request.headers["content-encoding"] ?? "identity";
  if (encoding === "identity") {
    return { kind: "body", bytes };
  }
  if (encoding !== "gzip") {
    return { kind: "rejected", status: 415, message: "the content encoding is not gzip" };
  }
  return new Promise((resolve) => {
    gunzip(bytes, { maxOutputLength: maxBytes }, (error, unzipped) => {
      if (error === null) {
        resolve({ kind: "body", bytes: unzipped });
      } else if ("code" in error && error.code === "ERR_BUFFER_TOO_LARGE") {
        resolve(tooLarge);
      } else {
        resolve({ kind: "rejected", status: 400, message: "the body is not gzip" });
      }
    });
  });
}

/**
 * Reads an export in OTLP's JSON, which is Protobuf's JSON but for the ids: they are hexadecimal and not base64.
 *
 * @throws when the text is not JSON, or not an export.
 * @see https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
 */
export function exportFromJson(json: string): ExportTraceServiceRequest {
  return fromJson(ExportTraceServiceRequestSchema, withBase64Ids(JSON.parse(json)), { ignoreUnknownFields: true });
}

/** Attributes are lists of `{key, value}`, so that an object's own keys are always the names of Protobuf fields. */
const idFields = new Set(["traceId", "spanId", "parentSpanId"]);

function withBase64Ids(value: JsonValue): JsonValue {
  if (Array.isArray(value)) {
    return value.map(withBase64Ids);
  }
  if (typeof value !== "object" || value === null) {
    return value;
  }
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      if (!idFields.has(key) || typeof inner !== "string") {
        return [key, withBase64Ids(inner)];
      }
      if (!/^([0-9a-f]{2})*$/i.test(inner)) {
        throw new Error(`${key} is not hexadecimal`);
      }
      return [key, Buffer.from(inner, "hex").toString("base64")];
    }),
  );
}
