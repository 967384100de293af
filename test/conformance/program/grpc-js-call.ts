import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { decodeBinaryHeader, encodeBinaryHeader } from "@connectrpc/connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import * as grpc from "@grpc/grpc-js";
import { isFullDuplex, observeCall, requestOf, requestsOf } from "./call.js";
import {
  type ClientCompatRequest,
  type ClientResponseResult,
  type ConformancePayload,
  ConformanceService,
  ErrorSchema,
  type Header,
} from "./messages.js";
import { delay, errorSeen, fieldsOf } from "./translate.js";
import { compressionOptions, credentialsForGrpcJs, targetOf } from "./transports.js";

/** Any of the suite's responses. */
type Response = MessageShape<DescMessage> & { readonly payload?: ConformancePayload };

/** Makes the call of a case with a plain grpc-js client, as a reference. */
export async function callWithGrpcJs(request: ClientCompatRequest): Promise<ClientResponseResult> {
  const method = ConformanceService.methods.find(({ name }) => name === request.method);
  if (method === undefined) {
    throw new Error(`the case names an unknown method: ${request.method}`);
  }
  const client = new grpc.Client(targetOf(request), credentialsForGrpcJs(request), {
    ...compressionOptions(request),
    ...(request.messageReceiveLimit > 0 && { "grpc.max_receive_message_length": request.messageReceiveLimit }),
  });
  const { input, output } = method;
  const begin = [
    `/${ConformanceService.typeName}/${method.name}`,
    (message: MessageShape<DescMessage>) => Buffer.from(toBinary(input, message)),
    (bytes: Buffer): Response => fromBinary(output, bytes),
  ] as const;
  const metadata = metadataOf(request.requestHeaders);
  const options = request.timeoutMs === undefined ? {} : { deadline: Date.now() + request.timeoutMs };
  const observed = observeCall(request, () => call?.cancel());
  const { result } = observed;
  let call: grpc.ClientUnaryCall | grpc.ClientReadableStream<Response> | undefined;

  /** Resolves when the call has its status and all its responses. */
  const ended = (begun: NonNullable<typeof call>) => {
    call = begun;
    begun.on("metadata", (headers: grpc.Metadata) => {
      result.responseHeaders = fieldsOf(headersOf(headers));
    });
    const status = new Promise<void>((resolve) => {
      begun.on("status", (received: grpc.StatusObject) => {
        // An answer without its one response is an error of the client, though its status is OK.
        if (result.error === undefined) {
          recordStatus(result, received);
        }
        resolve();
      });
    });
    // The status may come before responses that are still waiting to be read.
    const read = "read" in begun ? new Promise((resolve) => begun.on("end", resolve)) : undefined;
    return Promise.all([status, read]);
  };
  /** The response of a call that has one. */
  const onResponse = (error: grpc.ServiceError | null, response?: Response) => {
    if (error !== null) {
      recordStatus(result, error);
    } else if (response !== undefined) {
      observed.received(response.payload);
    }
  };

  try {
    switch (method.methodKind) {
      case "unary": {
        await delay(request.requestDelayMs);
        const status = ended(
          client.makeUnaryRequest(...begin, requestOf(input, request), metadata, options, onResponse),
        );
        observed.closedSend();
        await status;
        break;
      }
      case "server_streaming": {
        await delay(request.requestDelayMs);
        const stream = client.makeServerStreamRequest(...begin, requestOf(input, request), metadata, options);
        const status = ended(stream);
        observed.closedSend();
        stream.on("data", ({ payload }: Response) => observed.received(payload)).on("error", () => {});
        await status;
        break;
      }
      case "client_streaming": {
        const stream = client.makeClientStreamRequest(...begin, metadata, options, onResponse);
        const status = ended(stream);
        stream.on("error", () => {});
        for (const message of requestsOf(input, request)) {
          await delay(request.requestDelayMs);
          stream.write(message);
        }
        observed.beforeCloseSend();
        stream.end();
        observed.closedSend();
        await status;
        break;
      }
      case "bidi_streaming": {
        const stream = client.makeBidiStreamRequest(...begin, metadata, options);
        let over = false;
        const status = ended(stream).then(() => {
          over = true;
        });
        let onNext = () => {};
        stream
          .on("error", () => {})
          .on("data", ({ payload }: Response) => {
            observed.received(payload);
            onNext();
          });
        for (const message of requestsOf(input, request)) {
          await delay(request.requestDelayMs);
          const next = new Promise<void>((resolve) => {
            onNext = resolve;
          });
          if (!over) {
            stream.write(message);
          }
          if (isFullDuplex(request)) {
            await Promise.race([next, status]);
          }
        }
        observed.beforeCloseSend();
        stream.end();
        observed.closedSend();
        await status;
        break;
      }
    }
  } finally {
    client.close();
  }
  return result;
}

function recordStatus(result: ClientResponseResult, { code, details, metadata }: grpc.StatusObject): void {
  const trailers = headersOf(metadata);
  result.responseTrailers = fieldsOf(trailers);
  if (code === grpc.status.OK) {
    return;
  }
  const number: number = code;
  const detailed = trailers.has("grpc-status-details-bin") ? findTrailerError(trailers) : undefined;
  result.error = create(ErrorSchema, {
    ...(detailed && { details: errorSeen(detailed).details }),
    code: number,
    message: details,
  });
}

function metadataOf(fields: readonly Header[]): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const { name, value } of fields) {
    for (const each of value) {
      metadata.add(name, name.toLowerCase().endsWith("-bin") ? Buffer.from(decodeBinaryHeader(each)) : each);
    }
  }
  return metadata;
}

function headersOf(metadata: grpc.Metadata): Headers {
  const headers = new Headers();
  for (const name of Object.keys(metadata.getMap())) {
    for (const value of metadata.get(name)) {
      headers.append(name, typeof value === "string" ? value : encodeBinaryHeader(value));
    }
  }
  return headers;
}
