import { Code, ConnectError } from "@connectrpc/connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import * as grpc from "@grpc/grpc-js";
import { createConnectError } from "../errors/connect-error.js";
import { unavailable } from "../errors/errors.js";
import { appendMetadata } from "./grpc-metadata.js";

/** Told when a connection ends under a call. grpc-js says INTERNAL if the stream's end is seen before the connection's. */
export const connectionLost = "the connection to the server was lost";

/**
 * What grpc-js itself says when a call fails on this side, and what callers are told instead: its texts hold addresses, errno names
 * and file paths. The patterns follow the literals in grpc-js 1.14 (subchannel-call, load-balancing-call, resolver-*, picker).
 */
const localTexts: readonly (readonly [pattern: RegExp, text: string])[] = [
  [/^Deadline exceeded/, "the time ran out before the server answered"],
  [/^Channel closed/, "the channel is closed"],
  [
    /^(No connection established|Name resolution failed|Failed to parse|Failed to start HTTP|Unrecognized scheme)/,
    "the server cannot be reached",
  ],
  [
    /^(Connection dropped|Stream refused|Received RST_STREAM|Received HTTP status|read E|write E|Write error|Write failed|socket hang up)/,
    connectionLost,
  ],
  [/^(Cancelled on client|Call cancelled)/, "the call was cancelled"],
  [/^Re(quest|sponse) message/, "the message cannot be encoded or decoded"],
  // A last net for what the patterns above do not know: system errors and addresses with a port.
  [
    /\b(E(CONN|HOST|NET|AI_)\w+|ENOTFOUND|ETIMEDOUT|EPIPE|ENOENT|EACCES)\b|\d+\.\d+\.\d+\.\d+:\d+|\]:\d+/,
    "the server cannot be reached",
  ],
];

/** Fields of HTTP and of gRPC. Left in the error, they would become fields of the response of a server that passes it on. */
const isProtocolField = (name: string): boolean =>
  name.startsWith("grpc-") || name === "content-type" || name === "date";

/**
 * Turns a grpc-js ServiceError into a ConnectError with the same code, message, details and metadata. What the server said is kept;
 * what grpc-js said becomes a plain sentence, with the original as cause. Anything else goes through `ConnectError.from`.
 */
export function connectErrorFromGrpc(error: unknown): ConnectError {
  if (error instanceof ConnectError) {
    return error;
  }
  if (isClosedChannel(error)) {
    return unavailable("the channel is closed", error);
  }
  if (!isServiceError(error)) {
    return ConnectError.from(error);
  }
  const metadata = appendMetadata(new Headers(), error.metadata);
  // The details travel as google.rpc.Status; where they are missing or unreadable, the plain status has to do.
  const detailed = detailedError(metadata);
  const message = detailed?.rawMessage ?? plainText(error.details);
  const code = codeFromGrpc(error.code);
  const converted = createConnectError({
    code: message === connectionLost && code === Code.Internal ? Code.Unavailable : code,
    message,
    cause: error,
  });
  converted.details = detailed?.details ?? [];
  metadata.forEach((value, key) => {
    if (!isProtocolField(key)) {
      converted.metadata.append(key, value);
    }
  });
  return converted;
}

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

function plainText(details: string): string {
  return localTexts.find(([pattern]) => pattern.test(details))?.[1] ?? details;
}

/** The numbers are the same by specification; OK is no error, so an error that claims it is UNKNOWN. */
function codeFromGrpc(status: grpc.status): Code {
  const code: number = status;
  return isCode(code) ? code : Code.Unknown;
}

function isCode(code: number): code is Code {
  return Code[code] !== undefined;
}

/** What grpc-js throws, without a status, when a call is made on a closed channel. */
function isClosedChannel(error: unknown): boolean {
  return error instanceof Error && /^Channel has been shut down/.test(error.message);
}

function isServiceError(error: unknown): error is grpc.ServiceError {
  return (
    error instanceof Error &&
    "code" in error &&
    typeof error.code === "number" &&
    "details" in error &&
    typeof error.details === "string" &&
    "metadata" in error &&
    error.metadata instanceof grpc.Metadata
  );
}
