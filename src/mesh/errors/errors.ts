import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";
import { createConnectError } from "./connect-error.js";
import { type ErrorReason, errorInfo } from "./error-reason.js";
import { retryInfo } from "./retry-info.js";

/**
 * Turns whatever was thrown into the error that the client gets:
 * - a ConnectError stays as it is;
 * - an AbortError becomes the reason of `signal`, where that is a ConnectError (deadline, client left, shutdown), else CANCELED;
 * - a TimeoutError, as `AbortSignal.timeout` makes it, becomes DEADLINE_EXCEEDED;
 * - anything else becomes INTERNAL "internal error", because a foreign message may hold anything. It is kept as the cause.
 */
export function toClientError(error: unknown, signal?: AbortSignal): ConnectError {
  if (error instanceof ConnectError) {
    return error;
  }
  if (error instanceof Error && error.name === "AbortError") {
    return signal?.aborted && signal.reason instanceof ConnectError ? signal.reason : canceled(error);
  }
  if (error instanceof Error && error.name === "TimeoutError") {
    return createConnectError({ code: Code.DeadlineExceeded, message: "the time ran out", cause: error });
  }
  return createConnectError({ code: Code.Internal, message: "internal error", cause: error });
}

/** CANCELED: the client left, or cancelled the call. */
export function canceled(cause?: unknown): ConnectError {
  return createConnectError({ code: Code.Canceled, message: "the call was cancelled", cause });
}

/** DEADLINE_EXCEEDED that says where the time went: `deadlineExceeded("step 11 of 30")`. */
export function deadlineExceeded(where: string, cause?: unknown): ConnectError {
  return createConnectError({ code: Code.DeadlineExceeded, message: `the time ran out: ${where}`, cause });
}

/** UNAVAILABLE: nobody could take the call, or whoever did was lost. Another try may work. */
export function unavailable(message: string, cause?: unknown, reason?: ErrorReason): ConnectError {
  const details = reason === undefined ? [] : [errorInfo(reason)];
  return createConnectError({ code: Code.Unavailable, message, details, cause });
}

/** UNAVAILABLE of a call that may have killed the engine: clients try it once more at most. */
export function unavailableOnce(message: string, cause?: unknown): ConnectError {
  return unavailable(message, cause, "ENGINE_LOST");
}

/**
 * UNAVAILABLE because there is no space for what was made. `grpc-retry-pushback-ms: -1` tells a gRPC client not to have it made again at
 * once, for the same disk.
 */
export function storeFull(cause: unknown): ConnectError {
  return createConnectError({
    code: Code.Unavailable,
    message: "the picture cannot be kept: the disk of the pictures is full",
    details: [errorInfo("STORE_FULL")],
    metadata: { "grpc-retry-pushback-ms": "-1" },
    cause,
  });
}

/** INTERNAL with a plain reason that is fit for callers. */
export function internal(message: string, cause?: unknown): ConnectError {
  return createConnectError({ code: Code.Internal, message, cause });
}

/** NOT_FOUND. */
export function notFound(message: string): ConnectError {
  return createConnectError({ code: Code.NotFound, message });
}

/** INVALID_ARGUMENT without a field. For one field of a request, {@link invalidField} says which. */
export function invalidArgument(message: string, cause?: unknown): ConnectError {
  return createConnectError({ code: Code.InvalidArgument, message, cause });
}

/**
 * INVALID_ARGUMENT for one field, in the form of a broken contract rule: `buf.validate.Violations` with the field's path.
 *
 * @param path proto names from the request down, such as `options.width`.
 * @param message says which values are taken, without quoting the one that was sent.
 */
export function invalidField(path: string, message: string): ConnectError {
  const elements = path.split(".").map((fieldName) => ({ fieldName }));
  return createConnectError({
    code: Code.InvalidArgument,
    message: `${path}: ${message}`,
    details: [{ desc: ViolationsSchema, value: { violations: [{ field: { elements }, message }] } }],
  });
}

/**
 * RESOURCE_EXHAUSTED because the queue is full: google.rpc.RetryInfo carries the estimate of when there is room, and
 * `grpc-retry-pushback-ms: 0` tells a gRPC client to ask another server at once (in grpc-js a push-back above 0 holds the call back
 * from every server).
 */
export function queueFull(message: string, retryDelayMs: number): ConnectError {
  return createConnectError({
    code: Code.ResourceExhausted,
    message,
    details: [retryInfo(retryDelayMs), errorInfo("QUEUE_FULL")],
    metadata: { "grpc-retry-pushback-ms": "0" },
  });
}
