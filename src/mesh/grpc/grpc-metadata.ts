import { decodeBinaryHeader, encodeBinaryHeader } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";

/** Fields that belong to HTTP or to the gRPC protocol, and that grpc-js sets itself. */
const reserved = new Set([
  "connection",
  "content-length",
  "content-type",
  "host",
  "te",
  "transfer-encoding",
  "user-agent",
]);

/** Turns request headers into gRPC metadata; a `-bin` header's base64 values become bytes. */
export function metadataFromHeaders(headers: Headers, options: grpc.MetadataOptions = {}): grpc.Metadata {
  const metadata = new grpc.Metadata(options);
  headers.forEach((value, key) => {
    if (key.startsWith("grpc-") || reserved.has(key)) {
      return;
    }
    if (!key.endsWith("-bin")) {
      metadata.add(key, value);
    } else {
      for (const part of value.split(",")) {
        metadata.add(key, Buffer.from(decodeBinaryHeader(part.trim())));
      }
    }
  });
  return metadata;
}

/** Appends gRPC metadata to headers; bytes become base64. */
export function appendMetadata(headers: Headers, metadata: grpc.Metadata | undefined): Headers {
  for (const key of Object.keys(metadata?.getMap() ?? {})) {
    for (const value of metadata?.get(key) ?? []) {
      headers.append(key, typeof value === "string" ? value : encodeBinaryHeader(value));
    }
  }
  return headers;
}
