import { type DescMessage, type DescMethod, type MessageShape, toBinary } from "@bufbuild/protobuf";
import type { StreamRequest, UnaryRequest } from "@connectrpc/connect";
import type { Attributes, AttributeValue, Span } from "@opentelemetry/api";
import type { RpcSystem } from "./errors.js";
import { networkPeer } from "./otel-context.js";

/** A call as interceptors see it. */
export type RpcRequest = UnaryRequest | StreamRequest;

/** Says which attributes stay: `key` and `value` of one, and the call. */
export type AttributeFilter = (key: string, value: AttributeValue, request: RpcRequest) => boolean;

/** Value of `rpc.method`, and by default the name of the span: `package.Service/Method`. */
export function methodName(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`;
}

/** What protocol a call speaks, by its content type. gRPC-Web counts as gRPC; a Connect GET has no content type. */
export function rpcSystemOf(header: Headers): RpcSystem {
  return header.get("content-type")?.startsWith("application/grpc") ? "grpc" : "connectrpc";
}

/** The attributes that spans and metrics of both sides have. */
export function callAttributes(system: RpcSystem, request: RpcRequest): Attributes {
  return { "rpc.system.name": system, "rpc.method": methodName(request.method) };
}

/**
 * `server.address` and `server.port` out of the URL of a call: what the client dials, and what a server was called by (its authority).
 * The port only where the URL says one; nothing of a URL without a host.
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

/** Not the URL class, which takes longer than all else that is done for a call. */
const authority = /^[a-z][a-z0-9+.-]*:\/\/(\[[^\]]*\]|[^/:?#]+)(?::(\d+))?(?=[/?#]|$)/i;

/** `network.peer.address` and `network.peer.port`, where the server says them. */
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
 * `<prefix>.<name>` for each header of the allow-list that is there, in lower case. Repeated headers are one string with commas in
 * it, as the Headers class gives them; values of binary headers (`-bin`) stay in base64, as they travel.
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

/** The attributes that pass a filter; all, without one. */
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

/** Records the messages of one direction of a call, in their order. */
export type MessageRecorder = (message: MessageShape<DescMessage>) => void;

/**
 * Makes `rpc.message` events: `rpc.message.type`, `rpc.message.id` (counted from 1 in each direction) and
 * `rpc.message.uncompressed_size`, the bytes of the message in Protobuf's binary form. Measuring takes a serialisation of its own.
 *
 * The conventions deprecate these events and name no successor.
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
