import { type DescMessage, type DescMethod, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { createContextKey, type StreamRequest, type UnaryRequest } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";
import { metadataFromHeaders } from "./grpc-metadata.js";

/**
 * Context key of a call: true lets it wait for a connection until its deadline, where it would fail at once with UNAVAILABLE.
 * `createContextValues().set(waitForReady, true)`.
 */
export const waitForReady = createContextKey(false, { description: "gRPC wait-for-ready" });

/** What grpc-js needs to begin a call of any kind. */
export interface CallBeginning<I extends DescMessage, O extends DescMessage> {
  readonly path: string;
  readonly encode: (message: MessageShape<I>) => Buffer;
  readonly decode: (bytes: Buffer) => MessageShape<O>;
  readonly metadata: grpc.Metadata;
  /** Holds the deadline, which also becomes the `grpc-timeout` header. */
  readonly callOptions: grpc.CallOptions;
}

/** Translates a Connect request into grpc-js's terms. */
export function callBeginning<I extends DescMessage, O extends DescMessage>(
  { method, header, contextValues }: UnaryRequest<I, O> | StreamRequest<I, O>,
  timeoutMs: number | undefined,
): CallBeginning<I, O> {
  return {
    path: methodPath(method),
    encode: encoder(method.input),
    decode: (bytes) => fromBinary(method.output, bytes),
    metadata: metadataFromHeaders(header, { waitForReady: contextValues.get(waitForReady) }),
    callOptions: timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs },
  };
}

/** Cancels the call on the wire when the signal aborts, at once if it has. Returns how to stop listening. */
export function cancelOnAbort(call: { cancel(): void }, signal: AbortSignal): () => void {
  const cancel = () => call.cancel();
  if (signal.aborted) {
    cancel();
  } else {
    signal.addEventListener("abort", cancel, { once: true });
  }
  return () => signal.removeEventListener("abort", cancel);
}

/** Path of a method on the wire: `/package.Service/Method`. */
export function methodPath(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** Message to bytes, without copying. */
function encoder<Desc extends DescMessage>(schema: Desc): (message: MessageShape<Desc>) => Buffer {
  return (message) => {
    const bytes = toBinary(schema, message);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}
