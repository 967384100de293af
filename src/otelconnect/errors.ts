import { Code, ConnectError } from "@connectrpc/connect";
import type { Attributes, Span } from "@opentelemetry/api";

/**
 * The code that a server sends for an error thrown by its handler.
 *
 * - ConnectError: its own code.
 * - AbortError: the code of the signal's reason if that is a ConnectError (deadline, client disconnected, shutdown); otherwise CANCELLED.
 * - TimeoutError: DEADLINE_EXCEEDED.
 * - Any other error: INTERNAL.
 *
 * @param signal signal of the call.
 */
export function serverCodeOf(error: unknown, signal?: AbortSignal): Code {
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
  return leftCodeOf(signal);
}

/** The code of a call whose client disconnected: CANCELLED, or the code of the signal's reason if that is a ConnectError. */
export function leftCodeOf(signal?: AbortSignal): Code {
  return signal?.aborted && signal.reason instanceof ConnectError ? signal.reason.code : Code.Canceled;
}

/** The code that a client receives for an error. As in Connect, the reason of an aborted signal takes precedence. */
export function clientCodeOf(error: unknown, signal: AbortSignal): Code {
  return signal.aborted ? abortCodeOf(signal) : ConnectError.from(error).code;
}

/** The code that a client receives if its call's signal is aborted. */
export function abortCodeOf(signal: AbortSignal): Code {
  return ConnectError.from(signal.reason, Code.Canceled).code;
}

/** Observed side of a call. */
export type RpcSide = "client" | "server";

/** Value of `rpc.system.name`: gRPC (gRPC-Web included) or the Connect protocol. */
export type RpcSystem = "grpc" | "connectrpc";

/**
 * Names of each code in both systems, and whether it means a server error.
 *
 * Invalid requests, disconnected clients and a full queue are not server errors. For a client, every code is an error.
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

/** gRPC name of a code, such as `INVALID_ARGUMENT`. */
export type GrpcStatusName = (typeof codes)[Code]["grpc"];

/** Returns the gRPC name of a code. */
export function grpcStatusName(code: Code): GrpcStatusName {
  return codes[code].grpc;
}

/**
 * Value of `rpc.status_code`.
 *
 * @param code undefined for a successful call, for which the Connect protocol has no name.
 */
export function statusCodeOf(system: RpcSystem, code: Code | undefined): string | undefined {
  if (code === undefined) {
    return system === "grpc" ? "OK" : undefined;
  }
  return codes[code][system];
}

/**
 * Whether spans and metrics record this code as an error.
 *
 * For a client, every code is an error. The client interceptor exempts CANCELLED if the caller itself cancelled.
 */
export function isErrorCode(side: RpcSide, code: Code): boolean {
  return side === "client" || codes[code].serverError;
}

/**
 * Errors already recorded on a span. An error propagates through all enclosing spans and is recorded only on the innermost one.
 */
const recorded = new WeakSet<object>();

/**
 * Records an error once, as an `exception` event on the innermost span.
 *
 * Does nothing if the error or any error in its `cause` chain was recorded before, because errors are often mapped to others. The event
 * must not contain request data, so it has fewer attributes than `Span.recordException`:
 * - `exception.type`: the error's name;
 * - `exception.message`: the result of {@link messageForCallers}, if any;
 * - no stack trace: it contains the message and file paths.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-spans/
 */
export function recordException(span: Span, error: unknown): void {
  if (!span.isRecording() || wasRecorded(error)) {
    return;
  }
  if (typeof error === "object" && error !== null) {
    recorded.add(error);
  }
  span.addEvent("exception", describe(error));
}

/**
 * Returns an error's message if it is safe for spans and logs.
 *
 * Only messages of ConnectErrors are safe, with two exceptions:
 * - The message is a copy of the cause's: `ConnectError.from` copies any message, and JSON parse errors quote their input.
 * - The code is INVALID_ARGUMENT: its messages describe the caller's input.
 */
export function messageForCallers(error: unknown): string | undefined {
  if (!(error instanceof ConnectError) || error.rawMessage === "" || error.code === Code.InvalidArgument) {
    return undefined;
  }
  const { cause, rawMessage } = error;
  const isCopy = cause instanceof Error ? cause.message === rawMessage : cause === rawMessage;
  return isCopy ? undefined : rawMessage;
}

function wasRecorded(error: unknown): boolean {
  const seen = new Set<unknown>();
  for (let link = error; typeof link === "object" && link !== null && !seen.has(link); ) {
    if (recorded.has(link)) {
      return true;
    }
    seen.add(link);
    link = "cause" in link ? link.cause : undefined;
  }
  return false;
}

function describe(error: unknown): Attributes {
  if (!(error instanceof Error)) {
    return { "exception.type": typeof error };
  }
  const message = messageForCallers(error);
  return { "exception.type": error.name, ...(message !== undefined && { "exception.message": message }) };
}
