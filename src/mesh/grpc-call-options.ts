import { type DescMessage, type DescMethod, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { createContextKey } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";

/**
 * Context key of a call: true lets it wait for a connection until its deadline, where it would fail at once with UNAVAILABLE.
 * `createContextValues().set(waitForReady, true)`.
 */
export const waitForReady = createContextKey(false, { description: "gRPC wait-for-ready" });

/** Path of a method on the wire: `/package.Service/Method`. */
export function methodPath(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** The call's deadline in grpc-js's terms; it also becomes the `grpc-timeout` header. */
export function callOptions(timeoutMs: number | undefined): grpc.CallOptions {
  return timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
}

/** Message to bytes, without copying. */
export function encoder<Desc extends DescMessage>(schema: Desc): (message: MessageShape<Desc>) => Buffer {
  return (message) => {
    const bytes = toBinary(schema, message);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}

/** Bytes to message. */
export function decoder<Desc extends DescMessage>(schema: Desc): (bytes: Buffer) => MessageShape<Desc> {
  return (bytes) => fromBinary(schema, bytes);
}
