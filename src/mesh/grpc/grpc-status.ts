import { Code, type ConnectError, decodeBinaryHeader, encodeBinaryHeader } from "@connectrpc/connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import * as grpc from "@grpc/grpc-js";
import { createConnectError, unavailable } from "../errors/errors.js";

/**
 * Origin of a call's failure:
 * - `unreachable`: no connection, so nothing was sent;
 * - `connection`: the connection broke during the call;
 * - `attempt-timeout`: `retry.attemptTimeoutMs` passed;
 * - `server`: the server answered with the error, or reset the stream;
 * - `local`: this process ended the call.
 */
export type FailureOrigin = "unreachable" | "connection" | "attempt-timeout" | "server" | "local";

/** Failed call, with the facts that a retry depends on. Callers get `error`. */
export class CallFailure extends Error {
  override readonly name = "CallFailure";
  readonly error: ConnectError;
  readonly origin: FailureOrigin;
  /** The server's `grpc-retry-pushback-ms`; NaN if malformed. */
  readonly pushbackMs: number | undefined;

  constructor(error: ConnectError, origin: FailureOrigin, pushbackMs?: number) {
    super(error.message);
    this.error = error;
    this.origin = origin;
    this.pushbackMs = pushbackMs;
  }
}

/** State of a call when it fails. */
export interface CallState {
  /** Whether the stream was opened on a connection. */
  readonly started: boolean;
  /** Response headers, if received. */
  readonly header: grpc.Metadata | undefined;
  /** Whether the call's connection is closed. */
  readonly connectionLost: boolean;
}

/** Codes with which grpc-js ends the calls of a broken connection, depending on the order of its events. */
const lostCodes: ReadonlySet<number> = new Set([
  grpc.status.UNAVAILABLE,
  grpc.status.INTERNAL,
  grpc.status.CANCELLED,
  grpc.status.UNKNOWN,
]);

/**
 * Whether a status may come from a broken connection: it has no fields of a server. A Trailers-Only response has at least a content type.
 */
export function mayBeLoss({ code, metadata }: grpc.StatusObject): boolean {
  return lostCodes.has(code) && isEmpty(metadata);
}

/**
 * Classify a failed status by its code and by the state of the connection, never by its text.
 *
 * The server's message, details and metadata are kept. grpc-js's own text is kept for calls that reached a server, where it contains no
 * address; otherwise it becomes the cause.
 */
export function failureOf(status: grpc.StatusObject, { started, header, connectionLost }: CallState): CallFailure {
  if (!started) {
    return unstarted(status);
  }
  if (!isStatus(status)) {
    const message = "the response is compressed in an encoding that is unknown or not named";
    return new CallFailure(createConnectError({ code: Code.Internal, message, cause: status }), "server");
  }
  if (connectionLost && mayBeLoss(status)) {
    const error = unavailable("the connection to the server was lost", undefined, "CONNECTION_LOST");
    return new CallFailure(error, "connection");
  }
  const metadata = appendMetadata(appendMetadata(new Headers(), header), status.metadata);
  const detailed = detailedError(metadata);
  const error = createConnectError({
    code: codeFromGrpc(status.code),
    message: detailed?.rawMessage ?? status.details,
  });
  error.details = detailed?.details ?? [];
  // A proxy's fields describe its own response and would break ours.
  if (metadata.get("content-type")?.startsWith("application/grpc") !== false) {
    metadata.forEach((value, key) => {
      if (!isProtocolField(key)) {
        error.metadata.append(key, value);
      }
    });
  }
  return new CallFailure(error, "server", pushbackMsOf(status.metadata));
}

/** If a message cannot be decompressed, grpc-js passes the error itself in place of a status. */
function isStatus({ code, details }: Readonly<Record<"code" | "details", unknown>>): boolean {
  return typeof code === "number" && typeof details === "string";
}

function unstarted({ code, details }: grpc.StatusObject): CallFailure {
  const cause = new Error(details);
  return code === grpc.status.UNAVAILABLE
    ? new CallFailure(unavailable("the server cannot be reached", cause), "unreachable")
    : new CallFailure(
        createConnectError({ code: codeFromGrpc(code), message: "the call cannot be sent", cause }),
        "local",
      );
}

/** The google.rpc.Status in the trailers; undefined if absent or malformed. */
function detailedError(metadata: Headers): ConnectError | undefined {
  if (!metadata.has("grpc-status-details-bin")) {
    return undefined;
  }
  try {
    return findTrailerError(metadata);
  } catch {
    return undefined;
  }
}

function pushbackMsOf(trailer: grpc.Metadata): number | undefined {
  const [pushback] = trailer.get("grpc-retry-pushback-ms");
  if (pushback === undefined) {
    return undefined;
  }
  return /^-?\d{1,10}$/.test(String(pushback)) ? Number(pushback) : Number.NaN;
}

/** gRPC and Connect codes have the same numbers. An error with OK becomes UNKNOWN. */
function codeFromGrpc(status: grpc.status): Code {
  const code: number = status;
  return isCode(code) ? code : Code.Unknown;
}

function isCode(code: number): code is Code {
  return Code[code] !== undefined;
}

/** Whether a field belongs to HTTP or gRPC. In an error, a server would send it as a field of its own response. */
const isProtocolField = (name: string): boolean =>
  name.startsWith("grpc-") || name.startsWith("content-") || reserved.has(name) || name === "date";

/** HTTP and gRPC fields that grpc-js sets itself. */
const reserved = new Set([
  "connection",
  "content-length",
  "content-type",
  "host",
  "te",
  "trailer",
  "transfer-encoding",
  "user-agent",
]);

/** Convert request headers to gRPC metadata. Base64 values of `-bin` headers become bytes. */
export function metadataFromHeaders(headers: Headers, options?: grpc.MetadataOptions): grpc.Metadata {
  const metadata = new grpc.Metadata(options);
  headers.forEach((value, key) => {
    if (key.startsWith("grpc-") || reserved.has(key)) {
      return;
    }
    if (!key.endsWith("-bin")) {
      metadata.add(key, value);
    } else {
      for (const part of value.split(",")) {
        metadata.add(key, Buffer.from(decodeBinaryHeader(part.trim())));
      }
    }
  });
  return metadata;
}

/** Append gRPC metadata to headers. Bytes become base64. */
export function appendMetadata(headers: Headers, metadata: grpc.Metadata | undefined): Headers {
  if (metadata !== undefined) {
    for (const key of Object.keys(metadata.toJSON())) {
      for (const value of metadata.get(key)) {
        headers.append(key, typeof value === "string" ? value : encodeBinaryHeader(value));
      }
    }
  }
  return headers;
}

function isEmpty(metadata: grpc.Metadata): boolean {
  return Object.keys(metadata.toJSON()).length === 0;
}
