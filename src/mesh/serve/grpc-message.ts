/**
 * Re-writes the `grpc-message` that Connect made. Connect percent-encodes all that a URI component must not hold; gRPC asks for it only
 * outside of printable ASCII and for `%`, and grpc-js decodes no more than that, so its callers would read `ran out%3A`.
 *
 * @see https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses
 */
export function respellGrpcMessage(trailer: Headers): void {
  const message = trailer.get("grpc-message");
  if (message !== null) {
    trailer.set("grpc-message", decodeURIComponent(message).replace(/[^\x20-\x24\x26-\x7e]/gu, encodeURIComponent));
  }
}
