import { Code, ConnectError } from "@connectrpc/connect";
import type { Attributes, Span } from "@opentelemetry/api";

/**
 * The code with which a server's call ends when its handler throws this, so that a span says what the caller is told: a
 * ConnectError's own; for an AbortError that of the signal's reason, where that is a ConnectError (deadline, client left, shutdown),
 * else CANCELLED; DEADLINE_EXCEEDED for a TimeoutError; INTERNAL for anything else.
 *
 * @param signal signal of the call, which knows why it was aborted.
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

/** The code of a server's call whose caller left: CANCELLED, or what the signal's reason says, where that is a ConnectError. */
export function leftCodeOf(signal?: AbortSignal): Code {
  return signal?.aborted && signal.reason instanceof ConnectError ? signal.reason.code : Code.Canceled;
}

/** The code that a client is told when its call is rejected with this: Connect's own rule, in which an aborted call says why it was. */
export function clientCodeOf(error: unknown, signal: AbortSignal): Code {
  return signal.aborted ? abortCodeOf(signal) : ConnectError.from(error).code;
}

/** The code that a client is told when the signal of its call is aborted. */
export function abortCodeOf(signal: AbortSignal): Code {
  return ConnectError.from(signal.reason, Code.Canceled).code;
}

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

/**
 * Whether a call that ended with this code failed, as its span and its metric record it. For a client every code is a failure; its
 * interceptor excepts CANCELLED where the caller itself cancelled.
 */
export function isErrorCode(side: RpcSide, code: Code): boolean {
  return side === "client" || codes[code].serverError;
}

/**
 * Errors that already stand on a span. An error passes through every scope between the place where it happened and the root, and
 * belongs on the innermost one only.
 */
const recorded = new WeakSet<object>();

/**
 * Records an error as an `exception` event on the span it happened in. Does nothing where the error, or one that it was made from
 * (its `cause`), was recorded before: on its way up an error is often mapped to another.
 *
 * The event must never carry what a caller sent, so it holds less than `Span.recordException` would write:
 * - `exception.type`: the error's name, always;
 * - `exception.message`: only what {@link messageForCallers} gives;
 * - never a stack: its first line is the message, and its paths are nobody's business.
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
 * The text of an error where it was written for callers, and so may stand on a span: only of a ConnectError. Not when the text is a
 * copy of its cause's (`ConnectError.from` copies the message of any error, JSON parse errors included, and those quote their input),
 * and not with INVALID_ARGUMENT, the one code whose texts are about what the caller sent.
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
