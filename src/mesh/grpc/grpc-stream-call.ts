import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import type { StreamRequest, StreamResponse } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { callBeginning, cancelOnAbort } from "./grpc-call.js";
import { connectErrorFromGrpc } from "./grpc-error.js";
import { appendMetadata } from "./grpc-metadata.js";

/**
 * Makes one streaming call of any kind: on the wire they are all the same. Resolves with the response headers, or rejects with a
 * ConnectError if the call fails before them; a later failure is thrown while the messages are read. Aborting the request's signal
 * cancels the call on the wire.
 */
export function callStream<I extends DescMessage, O extends DescMessage>(
  client: grpc.Client,
  request: StreamRequest<I, O>,
  timeoutMs: number | undefined,
): Promise<StreamResponse<I, O>> {
  const { method, signal } = request;
  return new Promise((resolve, reject) => {
    const { path, encode, decode, metadata, callOptions } = callBeginning(request, timeoutMs);
    const call = client.makeBidiStreamRequest(path, encode, decode, metadata, callOptions);
    const stopListening = cancelOnAbort(call, signal);
    const trailer = new Headers();
    let opened = false;

    function open(header: grpc.Metadata | undefined): void {
      if (opened) {
        return;
      }
      opened = true;
      const responseHeader = appendMetadata(new Headers(), header);
      resolve({ stream: true, service: method.parent, method, header: responseHeader, trailer, message: read(call) });
    }

    call.on("metadata", open);
    call.on("status", (status: grpc.StatusObject) => {
      stopListening();
      appendMetadata(trailer, status.metadata);
      // A stream without messages may end before any headers came; a failed one reports itself as an error event.
      if (status.code === grpc.status.OK) {
        open(undefined);
      }
    });
    call.on("error", (error) => {
      if (!opened) {
        reject(connectErrorFromGrpc(error));
      }
    });

    void write(call, request.message).catch((error: unknown) => {
      call.cancel();
      if (!opened) {
        reject(connectErrorFromGrpc(error));
      }
    });
  });
}

async function* read<T>(call: AsyncIterable<T> & { cancel(): void }): AsyncGenerator<T> {
  try {
    yield* call;
  } catch (error) {
    throw connectErrorFromGrpc(error);
  } finally {
    // Only a reader that stops early leaves something to cancel.
    call.cancel();
  }
}

/** Sends the messages with back-pressure, then half-closes. Stops quietly when the call ends first. */
async function write<I extends DescMessage>(
  call: grpc.ClientWritableStream<MessageShape<I>>,
  messages: AsyncIterable<MessageShape<I>>,
): Promise<void> {
  for await (const message of messages) {
    if (call.destroyed) {
      return;
    }
    if (!call.write(message)) {
      await drained(call);
    }
  }
  call.end();
}

function drained(call: NodeJS.EventEmitter): Promise<void> {
  return new Promise((resolve) => {
    const events = ["drain", "close", "status"];
    const done = () => {
      for (const event of events) {
        call.off(event, done);
      }
      resolve();
    };
    for (const event of events) {
      call.on(event, done);
    }
  });
}
