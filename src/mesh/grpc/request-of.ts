import type { DescMethod } from "@bufbuild/protobuf";
import { type ContextValues, createContextValues } from "@connectrpc/connect";
import { methodPath } from "./grpc-call.js";

/** What a Transport gets as header: what the Headers constructor takes, undefined included. */
export type HeadersLike = ConstructorParameters<typeof Headers>[0];

/** The part of a Connect request that every call of a transport has, unary or streaming. */
export function requestOf(method: DescMethod, header: HeadersLike, contextValues: ContextValues | undefined) {
  return {
    service: method.parent,
    requestMethod: "POST",
    url: methodPath(method),
    header: new Headers(header),
    contextValues: contextValues ?? createContextValues(),
  };
}
