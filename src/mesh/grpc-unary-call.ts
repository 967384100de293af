import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import type { UnaryRequest, UnaryResponse } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";
import { callOptions, decoder, encoder, methodPath, waitForReady } from "./grpc-call-options.js";
import { connectErrorFromGrpc } from "./grpc-error.js";
import { appendMetadata, metadataFromHeaders } from "./grpc-metadata.js";

/** Makes one unary call. Rejects with a ConnectError; aborting the request's signal cancels the call on the wire. */
export function callUnary<I extends DescMessage, O extends DescMessage>(
  client: grpc.Client,
  request: UnaryRequest<I, O>,
  timeoutMs: number | undefined,
): Promise<UnaryResponse<I, O>> {
  const { method, signal } = request;
  return new Promise((resolve, reject) => {
    const header = new Headers();
    let message: MessageShape<O> | undefined;
    const call = client.makeUnaryRequest(
      methodPath(method),
      encoder(method.input),
      decoder(method.output),
      request.message,
      metadataFromHeaders(request.header, { waitForReady: request.contextValues.get(waitForReady) }),
      callOptions(timeoutMs),
      (error, response) => {
        message = response;
        if (error === null) {
          return; // The status event follows, with the trailers.
        }
        signal.removeEventListener("abort", cancel);
        reject(connectErrorFromGrpc(error));
      },
    );
    const cancel = () => call.cancel();
    call.on("metadata", (metadata) => appendMetadata(header, metadata));
    call.on("status", (status) => {
      signal.removeEventListener("abort", cancel);
      if (message === undefined) {
        return;
      }
      const trailer = appendMetadata(new Headers(), status.metadata);
      resolve({ stream: false, service: method.parent, method, header, trailer, message });
    });
    if (signal.aborted) {
      cancel();
    } else {
      signal.addEventListener("abort", cancel);
    }
  });
}
