import { Code, ConnectError } from "@connectrpc/connect";

/** gRPC's own spelling of a status code, as `rpc.response.status_code` holds it. */
export type RpcStatusName = (typeof statusNames)[Code];

const statusNames = {
  [Code.Canceled]: "CANCELLED",
  [Code.Unknown]: "UNKNOWN",
  [Code.InvalidArgument]: "INVALID_ARGUMENT",
  [Code.DeadlineExceeded]: "DEADLINE_EXCEEDED",
  [Code.NotFound]: "NOT_FOUND",
  [Code.AlreadyExists]: "ALREADY_EXISTS",
  [Code.PermissionDenied]: "PERMISSION_DENIED",
  [Code.ResourceExhausted]: "RESOURCE_EXHAUSTED",
  [Code.FailedPrecondition]: "FAILED_PRECONDITION",
  [Code.Aborted]: "ABORTED",
  [Code.OutOfRange]: "OUT_OF_RANGE",
  [Code.Unimplemented]: "UNIMPLEMENTED",
  [Code.Internal]: "INTERNAL",
  [Code.Unavailable]: "UNAVAILABLE",
  [Code.DataLoss]: "DATA_LOSS",
  [Code.Unauthenticated]: "UNAUTHENTICATED",
} as const satisfies Record<Code, string>;

/**
 * Codes that are the server's own failure. A caller's mistake, a caller that left and a full queue are answers, not errors of
 * the one who gives them.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/rpc/grpc/#grpc-status
 */
const serverFailures: ReadonlySet<Code> = new Set([
  Code.Unknown,
  Code.DeadlineExceeded,
  Code.Unimplemented,
  Code.Internal,
  Code.Unavailable,
  Code.DataLoss,
]);

/** Name of a code, such as `INVALID_ARGUMENT`. */
export function rpcStatusName(code: Code): RpcStatusName {
  return statusNames[code];
}

/** Whether a call that a server ended with this code is an error of the server. */
export function isServerFailure(code: Code): boolean {
  return serverFailures.has(code);
}

/**
 * The code with which a call ends when this is thrown, so that a span says what the caller is told: a ConnectError's own; for an
 * AbortError that of the signal's reason, where that is a ConnectError (deadline, client left, shutdown), else CANCELLED;
 * DEADLINE_EXCEEDED for a TimeoutError; INTERNAL for anything else.
 */
export function codeOf(error: unknown, signal?: AbortSignal): Code {
  if (error instanceof ConnectError) {
    return error.code;
  }
  if (!(error instanceof Error)) {
    return Code.Internal;
  }
  if (error.name === "TimeoutError") {
    return Code.DeadlineExceeded;
  }
  if (error.name !== "AbortError") {
    return Code.Internal;
  }
  return reasonOf(signal)?.code ?? Code.Canceled;
}

/** Why a call was aborted, where its signal says it in a ConnectError. */
export function reasonOf(signal: AbortSignal | undefined): ConnectError | undefined {
  return signal?.aborted && signal.reason instanceof ConnectError ? signal.reason : undefined;
}
