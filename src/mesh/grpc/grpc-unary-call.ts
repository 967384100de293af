import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import type { UnaryRequest, UnaryResponse } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";
import { callBeginning, cancelOnAbort } from "./grpc-call.js";
import { connectErrorFromGrpc } from "./grpc-error.js";
import { appendMetadata } from "./grpc-metadata.js";

/** Makes one unary call. Rejects with a ConnectError; aborting the request's signal cancels the call on the wire. */
export function callUnary<I extends DescMessage, O extends DescMessage>(
  client: grpc.Client,
  request: UnaryRequest<I, O>,
  timeoutMs: number | undefined,
): Promise<UnaryResponse<I, O>> {
  const { method, signal } = request;
  return new Promise((resolve, reject) => {
    const { path, encode, decode, metadata, callOptions } = callBeginning(request, timeoutMs);
    const header = new Headers();
    let message: MessageShape<O> | undefined;
    const call = client.makeUnaryRequest(
      path,
      encode,
      decode,
      request.message,
      metadata,
      callOptions,
      (error, response) => {
        message = response;
        // After a success the status event follows, with the trailers.
        if (error !== null) {
          stopListening();
          reject(connectErrorFromGrpc(error));
        }
      },
    );
    const stopListening = cancelOnAbort(call, signal);
    call.on("metadata", (fields) => appendMetadata(header, fields));
    call.on("status", (status) => {
      stopListening();
      if (message !== undefined) {
        const trailer = appendMetadata(new Headers(), status.metadata);
        resolve({ stream: false, service: method.parent, method, header, trailer, message });
      }
    });
  });
}
