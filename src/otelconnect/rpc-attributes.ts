import { type DescMessage, type DescMethod, type MessageShape, toBinary } from "@bufbuild/protobuf";
import type { StreamRequest, UnaryRequest } from "@connectrpc/connect";
import type { Attributes, AttributeValue, Span } from "@opentelemetry/api";
import type { RpcSystem } from "./errors.js";
import { networkPeer } from "./otel-context.js";

/** Request of a call, as passed to interceptors. */
export type RpcRequest = UnaryRequest | StreamRequest;

/** Returns whether to keep an attribute of a call. */
export type AttributeFilter = (key: string, value: AttributeValue, request: RpcRequest) => boolean;

/** Value of `rpc.method`, and by default the name of the span: `package.Service/Method`. */
export function methodName(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`;
}

/** Derives the protocol of a call from its content type. gRPC-Web counts as gRPC; a Connect GET has no content type. */
export function rpcSystemOf(header: Headers): RpcSystem {
  return header.get("content-type")?.startsWith("application/grpc") ? "grpc" : "connectrpc";
}

/** Common attributes of spans and metrics on both sides. */
export function callAttributes(system: RpcSystem, request: RpcRequest): Attributes {
  return { "rpc.system.name": system, "rpc.method": methodName(request.method) };
}

/**
 * `server.address` and `server.port` from a call's URL.
 *
 * On the server, the URL has the request's authority. Without a port in the URL, there is no `server.port`; without a host, there are no
 * attributes.
 */
export function serverAttributes(url: string): Attributes {
  const [, address, port] = authority.exec(url) ?? [];
  if (address === undefined) {
    return {};
  }
  return {
    "server.address": address.replace(/^\[|\]$/g, ""),
    ...(port !== undefined && { "server.port": Number(port) }),
  };
}

/** A regular expression, because the URL class takes longer than the rest of the instrumentation. */
const authority = /^[a-z][a-z0-9+.-]*:\/\/(\[[^\]]*\]|[^/:?#]+)(?::(\d+))?(?=[/?#]|$)/i;

/** `network.peer.address` and `network.peer.port`, if the server sets {@link networkPeer}. */
export function peerAttributes(request: RpcRequest): Attributes {
  const peer = request.contextValues.get(networkPeer);
  if (peer === undefined || peer.address === "") {
    return {};
  }
  return {
    "network.peer.address": peer.address,
    ...(peer.port !== undefined && { "network.peer.port": peer.port }),
  };
}

/**
 * `<prefix>.<name>` for each allowed header that is present, with the name in lower case.
 *
 * Repeated headers are one comma-separated string, as in the Headers class. Values of binary headers (`-bin`) stay in base64.
 */
export function headerAttributes(prefix: string, header: Headers, allowed: readonly string[]): Attributes {
  const attributes: Attributes = {};
  for (const name of allowed) {
    const value = header.get(name);
    if (value !== null) {
      attributes[`${prefix}.${name.toLowerCase()}`] = [value];
    }
  }
  return attributes;
}

/** Returns the attributes that pass the filter, or all without a filter. */
export function filterAttributes(
  attributes: Attributes,
  filter: AttributeFilter | undefined,
  request: RpcRequest,
): Attributes {
  if (filter === undefined) {
    return attributes;
  }
  return Object.fromEntries(
    Object.entries(attributes).filter(([key, value]) => value !== undefined && filter(key, value, request)),
  );
}

/** Records the messages of one direction of a call, in order. */
export type MessageRecorder = (message: MessageShape<DescMessage>) => void;

/**
 * Creates a recorder of `rpc.message` events.
 *
 * Attributes: `rpc.message.type`, `rpc.message.id` (from 1 in each direction) and `rpc.message.uncompressed_size` (bytes of the Protobuf
 * binary format, which needs an extra serialization). The semantic conventions deprecate these events without a replacement.
 */
export function createMessageRecorder(span: Span, type: "SENT" | "RECEIVED", schema: DescMessage): MessageRecorder {
  let id = 0;
  return (message) => {
    id += 1;
    span.addEvent("rpc.message", {
      "rpc.message.type": type,
      "rpc.message.id": id,
      "rpc.message.uncompressed_size": toBinary(schema, message).byteLength,
    });
  };
}
