import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { type FieldPathElementSchema, ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema, type RetryInfo, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";

/**
 * Map a thrown value to the error for the client:
 * - ConnectError: unchanged;
 * - AbortError: the reason of `signal` if that is a ConnectError (deadline, client disconnected, shutdown), else CANCELLED;
 * - TimeoutError, as from `AbortSignal.timeout`: DEADLINE_EXCEEDED;
 * - anything else: INTERNAL "internal error", because its message may contain anything. It is kept as the cause.
 */
export function toClientError(error: unknown, signal?: AbortSignal): ConnectError {
  if (error instanceof ConnectError) {
    return error;
  }
  if (error instanceof Error && error.name === "AbortError") {
    return signal?.aborted && signal.reason instanceof ConnectError ? signal.reason : canceled(error);
  }
  if (error instanceof Error && error.name === "TimeoutError") {
    return createConnectError({ code: Code.DeadlineExceeded, message: "deadline exceeded", cause: error });
  }
  return createConnectError({ code: Code.Internal, message: "internal error", cause: error });
}

/** CANCELLED: the client disconnected or cancelled the call. */
export function canceled(cause?: unknown): ConnectError {
  return createConnectError({ code: Code.Canceled, message: "the call was cancelled", cause });
}

/** DEADLINE_EXCEEDED with the phase of the call: `deadlineExceeded("step 11 of 30")`. */
export function deadlineExceeded(where: string, cause?: unknown): ConnectError {
  return createConnectError({ code: Code.DeadlineExceeded, message: `deadline exceeded: ${where}`, cause });
}

/** UNAVAILABLE: no server accepts the call, or its server was lost. A retry may succeed. */
export function unavailable(message: string, cause?: unknown, reason?: ErrorReason): ConnectError {
  const details = reason === undefined ? [] : [errorInfo(reason)];
  return createConnectError({ code: Code.Unavailable, message, details, cause });
}

/** UNAVAILABLE for a call that may have killed the engine: clients retry it at most once. */
export function unavailableOnce(message: string, cause?: unknown): ConnectError {
  return unavailable(message, cause, "ENGINE_LOST");
}

const storeFailures = {
  full: ["STORE_FULL", "the image store is full"],
  unavailable: ["STORE_UNAVAILABLE", "the image store is not available; the server's log has the reason"],
} as const;

/**
 * UNAVAILABLE because an image cannot be stored. `grpc-retry-pushback-ms: -1` keeps gRPC clients from a retry, which would generate another
 * image in vain.
 */
export function storeFailure(failure: keyof typeof storeFailures, cause: unknown): ConnectError {
  const [reason, message] = storeFailures[failure];
  return createConnectError({
    code: Code.Unavailable,
    message: `the image cannot be stored: ${message}`,
    details: [errorInfo(reason)],
    metadata: { "grpc-retry-pushback-ms": "-1" },
    cause,
  });
}

/** INTERNAL with a message that callers may read. */
export function internal(message: string, cause?: unknown): ConnectError {
  return createConnectError({ code: Code.Internal, message, cause });
}

/** NOT_FOUND. */
export function notFound(message: string): ConnectError {
  return createConnectError({ code: Code.NotFound, message });
}

/** INVALID_ARGUMENT without a field. For one field of a request, use {@link invalidField}. */
export function invalidArgument(message: string, cause?: unknown): ConnectError {
  return createConnectError({ code: Code.InvalidArgument, message, cause });
}

/**
 * INVALID_ARGUMENT for one field, like a violated contract rule: `buf.validate.Violations` with the field's path.
 *
 * @param path proto names from the request down, such as `options.width`.
 * @param message names the valid values, without quoting the one that was sent.
 */
export function invalidField(path: string, message: string): ConnectError {
  return invalidFields([{ path, message }]);
}

/** INVALID_ARGUMENT for several fields at once; see {@link invalidField}. */
export function invalidFields(fields: readonly { readonly path: string; readonly message: string }[]): ConnectError {
  const violations = fields.map(({ path, message }) => ({
    field: { elements: path.split(".").map(pathElement) },
    message,
  }));
  return createConnectError({
    code: Code.InvalidArgument,
    message: fields.map(({ path, message }) => `${path}: ${message}`).join("; "),
    details: [{ desc: ViolationsSchema, value: { violations } }],
  });
}

/** A field, or an item of a repeated one: `loras[0]`. */
function pathElement(text: string): MessageInitShape<typeof FieldPathElementSchema> {
  const [, fieldName = text, index] = /^(\w+)\[(\d+)\]$/.exec(text) ?? [];
  return index === undefined ? { fieldName } : { fieldName, subscript: { case: "index", value: BigInt(index) } };
}

/**
 * RESOURCE_EXHAUSTED because the queue is full. google.rpc.RetryInfo has the estimated time until a free slot. `grpc-retry-pushback-ms: 0`
 * lets a gRPC client try another server at once; in grpc-js a value above 0 delays the call for every server.
 */
export function queueFull(message: string, retryDelayMs: number): ConnectError {
  return createConnectError({
    code: Code.ResourceExhausted,
    message,
    details: [retryInfo(retryDelayMs), errorInfo("QUEUE_FULL")],
    metadata: { "grpc-retry-pushback-ms": "0" },
  });
}

/** Error detail with its type, for `google.rpc.Status.details`. */
export interface ErrorDetail<Desc extends DescMessage = DescMessage> {
  readonly desc: Desc;
  readonly value: MessageInitShape<Desc>;
}

/** Parts of an error: `cause` is for the log, all others are sent to the client. */
export interface ConnectErrorInit {
  readonly code: Code;
  /** Sentence for callers, without prompt, address or stack. */
  readonly message: string;
  readonly details?: readonly ErrorDetail[];
  /** Sent as response headers or trailers. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** For the log; never sent. */
  readonly cause?: unknown;
}

/** Create a ConnectError from named parts. Its constructor has five positional parameters. */
export function createConnectError(init: ConnectErrorInit): ConnectError {
  return new ConnectError(init.message, init.code, init.metadata, [...(init.details ?? [])], init.cause);
}

/** Maximum retry delay, sent or accepted, in milliseconds: a day. */
const maxDelayMs = 86_400_000;

/** Create google.rpc.RetryInfo with a delay in milliseconds, clamped to 0 to a day; NaN counts as a day. */
export function retryInfo(retryDelayMs: number): ErrorDetail<typeof RetryInfoSchema> {
  const delayMs = Math.round(clampDelay(retryDelayMs));
  return {
    desc: RetryInfoSchema,
    value: { retryDelay: { seconds: BigInt(Math.floor(delayMs / 1000)), nanos: (delayMs % 1000) * 1_000_000 } },
  };
}

/** Read the delay of an error's google.rpc.RetryInfo, in milliseconds, clamped to 0 to a day; undefined without one. */
export function retryDelayMsOf(error: ConnectError): number | undefined {
  const info: RetryInfo | undefined = error.findDetails(RetryInfoSchema)[0];
  if (info?.retryDelay === undefined) {
    return undefined;
  }
  return clampDelay(Number(info.retryDelay.seconds) * 1000 + info.retryDelay.nanos / 1_000_000);
}

function clampDelay(delayMs: number): number {
  return Number.isNaN(delayMs) ? maxDelayMs : Math.min(Math.max(0, delayMs), maxDelayMs);
}

/**
 * Return the cause that the client does not get, for the log: an error that is no ConnectError, or such a cause of a ConnectError.
 *
 * Undefined without one. Aborts are omitted, because the code already has that information. Errors from other servers are omitted, because
 * those servers log them, and their messages may contain anything.
 */
export function hiddenCauseOf(error: unknown): unknown {
  const cause = error instanceof ConnectError ? error.cause : error;
  const isAbort = cause instanceof Error && (cause.name === "AbortError" || cause.name === "TimeoutError");
  // The form of grpc-js's ServiceError, for handlers that use grpc-js themselves.
  const isServiceError = cause instanceof Error && "details" in cause && "metadata" in cause;
  return cause instanceof ConnectError || isAbort || isServiceError ? undefined : cause;
}

/** Domain of the reasons: `google.rpc.ErrorInfo.domain`. */
const domain = "throughline";

/**
 * Machine-readable reason of a failure: `google.rpc.ErrorInfo.reason`.
 * - `ENGINE_LOST`: the engine died while it ran this call, so the call may be the cause;
 * - `QUEUE_FULL`: the worker has no free slot. RetryInfo says when to try again;
 * - `STORE_FULL`: the image store is full;
 * - `STORE_UNAVAILABLE`: the image store does not answer, or rejects the service;
 * - `NO_REPLICA`: no replica of the app is reachable and ready;
 * - `CONNECTION_LOST`: the connection broke during the call;
 * - `CONCURRENCY_LIMIT`: the caller has as many running calls as it may have;
 * - `RATE_LIMIT`: the caller is over its rate limit. RetryInfo says when to try again;
 * - `ATTEMPT_TIMEOUT`: a replica sent nothing within `retry.attemptTimeoutMs`.
 */
export type ErrorReason =
  | "ENGINE_LOST"
  | "QUEUE_FULL"
  | "STORE_FULL"
  | "STORE_UNAVAILABLE"
  | "NO_REPLICA"
  | "CONNECTION_LOST"
  | "CONCURRENCY_LIMIT"
  | "RATE_LIMIT"
  | "ATTEMPT_TIMEOUT";

/** Create the google.rpc.ErrorInfo detail of a reason. */
export function errorInfo(reason: ErrorReason): ErrorDetail<typeof ErrorInfoSchema> {
  return { desc: ErrorInfoSchema, value: { reason, domain } };
}

/** Whether an error, received or local, has this reason. */
export function hasReason(error: ConnectError, reason: ErrorReason): boolean {
  return error.findDetails(ErrorInfoSchema).some((info) => info.domain === domain && info.reason === reason);
}
