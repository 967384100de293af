import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema, type RetryInfo, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";

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
    message: "the image cannot be kept: the disk of the images is full",
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
  return invalidFields([{ path, message }]);
}

/** INVALID_ARGUMENT for several fields at once; see {@link invalidField}. */
export function invalidFields(fields: readonly { readonly path: string; readonly message: string }[]): ConnectError {
  const violations = fields.map(({ path, message }) => ({
    field: { elements: path.split(".").map((fieldName) => ({ fieldName })) },
    message,
  }));
  return createConnectError({
    code: Code.InvalidArgument,
    message: fields.map(({ path, message }) => `${path}: ${message}`).join("; "),
    details: [{ desc: ViolationsSchema, value: { violations } }],
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

/** A message to attach to an error, with its type: what `google.rpc.Status.details` carries. */
export interface ErrorDetail<Desc extends DescMessage = DescMessage> {
  readonly desc: Desc;
  readonly value: MessageInitShape<Desc>;
}

/** What an error says to the client (code, message, details, metadata), and what only the log may see (cause). */
export interface ConnectErrorInit {
  readonly code: Code;
  /** A plain sentence for callers: no prompt, no address, no stack. */
  readonly message: string;
  readonly details?: readonly ErrorDetail[];
  /** Sent as response headers or trailers. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Never sent; kept for the log. */
  readonly cause?: unknown;
}

/** Makes a ConnectError from named parts, because the constructor takes five positional ones. */
export function createConnectError(init: ConnectErrorInit): ConnectError {
  return new ConnectError(init.message, init.code, init.metadata, [...(init.details ?? [])], init.cause);
}

/** Longest delay that is told or believed, in milliseconds: a day. */
const maxDelayMs = 86_400_000;

/** The google.rpc.RetryInfo detail: try again in `retryDelayMs` milliseconds, cut to 0 to a day; what is no number counts as a day. */
export function retryInfo(retryDelayMs: number): ErrorDetail<typeof RetryInfoSchema> {
  const delayMs = Math.round(cut(retryDelayMs));
  return {
    desc: RetryInfoSchema,
    value: { retryDelay: { seconds: BigInt(Math.floor(delayMs / 1000)), nanos: (delayMs % 1000) * 1_000_000 } },
  };
}

/** The delay in milliseconds that an error's google.rpc.RetryInfo asks for, cut to 0 to a day; undefined without one. */
export function retryDelayMsOf(error: ConnectError): number | undefined {
  const info: RetryInfo | undefined = error.findDetails(RetryInfoSchema)[0];
  if (info?.retryDelay === undefined) {
    return undefined;
  }
  return cut(Number(info.retryDelay.seconds) * 1000 + info.retryDelay.nanos / 1_000_000);
}

function cut(delayMs: number): number {
  return Number.isNaN(delayMs) ? maxDelayMs : Math.min(Math.max(0, delayMs), maxDelayMs);
}

/**
 * What a failure hides from the client and only this process can log: a foreign error itself, or the foreign cause of a ConnectError.
 * Undefined where there is none. An abort adds nothing to the code. What another server answered is never a cause: that server has its own
 * log, and its message may hold anything.
 */
export function hiddenCauseOf(error: unknown): unknown {
  const cause = error instanceof ConnectError ? error.cause : error;
  const isAbort = cause instanceof Error && (cause.name === "AbortError" || cause.name === "TimeoutError");
  // The form of grpc-js's ServiceError, which handlers get that call servers by grpc-js themselves.
  const isAnswer = cause instanceof Error && "details" in cause && "metadata" in cause;
  return cause instanceof ConnectError || isAbort || isAnswer ? undefined : cause;
}

/** Who gives the reasons: `google.rpc.ErrorInfo.domain`. */
const domain = "throughline";

/**
 * Why a call failed, for programs: `google.rpc.ErrorInfo.reason`.
 * - `ENGINE_LOST`: the engine died while it ran this very call, so the call may be the cause;
 * - `QUEUE_FULL`: the worker has no free slot. RetryInfo says when to try again;
 * - `STORE_FULL`: the image store is full;
 * - `NO_REPLICA`: no replica of the app is reachable and ready;
 * - `CONNECTION_LOST`: the connection broke during the call;
 * - `ATTEMPT_TIMEOUT`: a replica sent nothing within `retry.attemptTimeoutMs`.
 */
export type ErrorReason =
  | "ENGINE_LOST"
  | "QUEUE_FULL"
  | "STORE_FULL"
  | "NO_REPLICA"
  | "CONNECTION_LOST"
  | "ATTEMPT_TIMEOUT";

/** The google.rpc.ErrorInfo detail of a reason. */
export function errorInfo(reason: ErrorReason): ErrorDetail<typeof ErrorInfoSchema> {
  return { desc: ErrorInfoSchema, value: { reason, domain } };
}

/** Whether an error gives this reason, received or made here. */
export function hasReason(error: ConnectError, reason: ErrorReason): boolean {
  return error.findDetails(ErrorInfoSchema).some((info) => info.domain === domain && info.reason === reason);
}
