import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";

/** Compressions for requests and responses. */
export const acceptCompression = [compressionGzip, compressionBrotli];

/**
 * Encoding of a request's messages, by its protocol's own field: Connect's unary calls, Connect's streams, gRPC and gRPC-Web each have one. The
 * fields of other protocols mean nothing to the parser.
 *
 * @returns null if the field is absent.
 */
export function messageEncoding(header: Headers): string | null {
  const type = header.get("content-type") ?? "";
  if (/^application\/grpc/i.test(type)) {
    return header.get("grpc-encoding");
  }
  return header.get(/^application\/connect\+/i.test(type) ? "connect-content-encoding" : "content-encoding");
}
