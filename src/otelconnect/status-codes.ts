import { Code } from "@connectrpc/connect";

/** Which end of a call is observed. */
export type RpcSide = "client" | "server";

/** Value of `rpc.system.name`: gRPC, gRPC-Web among it, or the Connect protocol. */
export type RpcSystem = "grpc" | "connectrpc";

/**
 * Every code: how the two systems spell it, and whether a server that answers with it has failed itself. A caller's mistake, a caller
 * that left and a full queue are answers, not errors of the one who gives them. For the client every code is an error.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
 * @see https://opentelemetry.io/docs/specs/semconv/rpc/connect-rpc/
 */
const codes = {
  [Code.Canceled]: { grpc: "CANCELLED", connectrpc: "canceled", serverError: false },
  [Code.Unknown]: { grpc: "UNKNOWN", connectrpc: "unknown", serverError: true },
  [Code.InvalidArgument]: { grpc: "INVALID_ARGUMENT", connectrpc: "invalid_argument", serverError: false },
  [Code.DeadlineExceeded]: { grpc: "DEADLINE_EXCEEDED", connectrpc: "deadline_exceeded", serverError: true },
  [Code.NotFound]: { grpc: "NOT_FOUND", connectrpc: "not_found", serverError: false },
  [Code.AlreadyExists]: { grpc: "ALREADY_EXISTS", connectrpc: "already_exists", serverError: false },
  [Code.PermissionDenied]: { grpc: "PERMISSION_DENIED", connectrpc: "permission_denied", serverError: false },
  [Code.ResourceExhausted]: { grpc: "RESOURCE_EXHAUSTED", connectrpc: "resource_exhausted", serverError: false },
  [Code.FailedPrecondition]: { grpc: "FAILED_PRECONDITION", connectrpc: "failed_precondition", serverError: false },
  [Code.Aborted]: { grpc: "ABORTED", connectrpc: "aborted", serverError: false },
  [Code.OutOfRange]: { grpc: "OUT_OF_RANGE", connectrpc: "out_of_range", serverError: false },
  [Code.Unimplemented]: { grpc: "UNIMPLEMENTED", connectrpc: "unimplemented", serverError: true },
  [Code.Internal]: { grpc: "INTERNAL", connectrpc: "internal", serverError: true },
  [Code.Unavailable]: { grpc: "UNAVAILABLE", connectrpc: "unavailable", serverError: true },
  [Code.DataLoss]: { grpc: "DATA_LOSS", connectrpc: "data_loss", serverError: true },
  [Code.Unauthenticated]: { grpc: "UNAUTHENTICATED", connectrpc: "unauthenticated", serverError: false },
} as const satisfies Record<Code, Readonly<Record<RpcSystem, string>> & { readonly serverError: boolean }>;

/** gRPC's own spelling of a code, such as `INVALID_ARGUMENT`. */
export type GrpcStatusName = (typeof codes)[Code]["grpc"];

/** gRPC's own spelling of a code. */
export function grpcStatusName(code: Code): GrpcStatusName {
  return codes[code].grpc;
}

/**
 * Value of `rpc.status_code`.
 *
 * @param code undefined for a call that went well, for which the Connect protocol has no word.
 */
export function statusCodeOf(system: RpcSystem, code: Code | undefined): string | undefined {
  if (code === undefined) {
    return system === "grpc" ? "OK" : undefined;
  }
  return codes[code][system];
}

/** Whether the span and the metric of a call that ended with this code say that it failed. */
export function isErrorCode(side: RpcSide, code: Code): boolean {
  return side === "client" || codes[code].serverError;
}
