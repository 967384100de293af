import { Code, type ConnectError, decodeBinaryHeader, encodeBinaryHeader } from "@connectrpc/connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import * as grpc from "@grpc/grpc-js";
import { createConnectError, unavailable } from "../errors/errors.js";

/**
 * Where a call failed:
 * - `unreachable`: no connection, so nothing was sent;
 * - `connection`: the connection broke during the call;
 * - `silence`: the attempt's own time limit passed;
 * - `server`: the server answered with the error, or reset the stream;
 * - `local`: this process ended the call.
 */
export type FailureOrigin = "unreachable" | "connection" | "silence" | "server" | "local";

/** A call that failed, with what a retry has to know. Callers get `error`. */
export class CallFailure extends Error {
  override readonly name = "CallFailure";
  readonly error: ConnectError;
  readonly origin: FailureOrigin;
  /** The server's `grpc-retry-pushback-ms`; NaN for one that cannot be read. */
  readonly pushbackMs: number | undefined;

  constructor(error: ConnectError, origin: FailureOrigin, pushbackMs?: number) {
    super(error.message);
    this.error = error;
    this.origin = origin;
    this.pushbackMs = pushbackMs;
  }
}

/** What is known of a call when it fails. */
export interface CallFacts {
  /** Whether its stream was opened on a connection. */
  readonly started: boolean;
  /** Response headers, where any came. */
  readonly header: grpc.Metadata | undefined;
  /** Whether the connection under it is gone. */
  readonly connectionLost: boolean;
}

/** Codes with which grpc-js ends the calls of a connection that breaks, depending on which end it sees first. */
const lostCodes: ReadonlySet<number> = new Set([
  grpc.status.UNAVAILABLE,
  grpc.status.INTERNAL,
  grpc.status.CANCELLED,
  grpc.status.UNKNOWN,
]);

/**
 * Whether a status may come from a broken connection: it has none of a server's fields. A Trailers-Only answer has at least a content
 * type, and errors with details have those.
 */
export function mayBeLoss({ code, metadata }: grpc.StatusObject): boolean {
  return lostCodes.has(code) && isEmpty(metadata);
}

/**
 * Classifies a failed status by its code and by what happened on the connection, never by its text. The server's message, details and
 * metadata are kept. grpc-js's own text is kept for calls that reached a server, where it holds no address; else it becomes the cause.
 */
export function failureOf(status: grpc.StatusObject, { started, header, connectionLost }: CallFacts): CallFailure {
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
  // What a proxy answers is about its own response, and would break one that these fields are passed on to.
  if (metadata.get("content-type")?.startsWith("application/grpc") !== false) {
    metadata.forEach((value, key) => {
      if (!isProtocolField(key)) {
        error.metadata.append(key, value);
      }
    });
  }
  return new CallFailure(error, "server", pushbackMsOf(status.metadata));
}

/** Where a message cannot be decompressed, grpc-js gives the error itself in place of a status. */
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

/** The google.rpc.Status in the trailers. Without one that can be read, the plain status has to do. */
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

/** The numbers are the same by specification. OK is no error, so an error that claims it is UNKNOWN. */
function codeFromGrpc(status: grpc.status): Code {
  const code: number = status;
  return isCode(code) ? code : Code.Unknown;
}

function isCode(code: number): code is Code {
  return Code[code] !== undefined;
}

/** Fields of HTTP and gRPC. In an error they would become fields of a server's answer that passes the error on. */
const isProtocolField = (name: string): boolean =>
  name.startsWith("grpc-") || name.startsWith("content-") || reserved.has(name) || name === "date";

/** Fields that belong to HTTP or gRPC, and that grpc-js sets itself. */
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

/** Turns request headers into gRPC metadata. The base64 values of a `-bin` header become bytes. */
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

/** Appends gRPC metadata to headers. Bytes become base64. */
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
