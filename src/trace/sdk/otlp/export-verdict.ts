import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import grpc from "@grpc/grpc-js";
import { RetryInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";

/** What became of one try to export a request. */
export type ExportVerdict =
  /** The collector has it; `response` is an encoded export response. */
  | { readonly kind: "taken"; readonly response: Uint8Array }
  /** It may be tried again, after `delayMs` where the collector said so. */
  | { readonly kind: "later"; readonly reason: string; readonly delayMs?: number }
  /** It would fail again. */
  | { readonly kind: "refused"; readonly reason: string };

const { status } = grpc;

/** Codes that OTLP calls retryable; RESOURCE_EXHAUSTED is one only where the collector says when. */
const retryable: ReadonlySet<number> = new Set([
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.ABORTED,
  status.OUT_OF_RANGE,
  status.UNAVAILABLE,
  status.DATA_LOSS,
]);

/**
 * What a failed call means.
 *
 * @see https://opentelemetry.io/docs/specs/otlp/#failures
 */
export function judgeGrpcFailure({ code, message, metadata }: grpc.ServiceError): ExportVerdict {
  const delayMs = retryDelayMsOf(metadata);
  if (retryable.has(code) || (code === status.RESOURCE_EXHAUSTED && delayMs !== undefined)) {
    return { kind: "later", reason: message, ...(delayMs !== undefined && { delayMs }) };
  }
  return { kind: "refused", reason: message };
}

/** The delay of a `google.rpc.RetryInfo` among the details of a status. */
function retryDelayMsOf(metadata: grpc.Metadata): number | undefined {
  const details = metadata.get("grpc-status-details-bin")[0];
  if (!(details instanceof Buffer)) {
    return undefined;
  }
  try {
    const trailer = new Headers({ "grpc-status-details-bin": details.toString("base64") });
    const delay = findTrailerError(trailer)?.findDetails(RetryInfoSchema)[0]?.retryDelay;
    return delay && Number(delay.seconds) * 1000 + delay.nanos / 1_000_000;
  } catch {
    // Details that cannot be read say nothing; the code still does.
    return undefined;
  }
}

/**
 * What an HTTP response means, its body aside.
 *
 * @param retryAfter The header of that name: seconds, or a date.
 * @param nowMs Milliseconds since 1970, for a date.
 * @see https://opentelemetry.io/docs/specs/otlp/#failures-1
 */
export function judgeHttpFailure(statusCode: number, retryAfter: string | undefined, nowMs: number): ExportVerdict {
  const reason = `HTTP status ${statusCode}`;
  if (![429, 502, 503, 504].includes(statusCode)) {
    return { kind: "refused", reason };
  }
  const seconds = Number(retryAfter ?? Number.NaN);
  const delayMs = Number.isNaN(seconds) ? Date.parse(retryAfter ?? "") - nowMs : seconds * 1000;
  return { kind: "later", reason, ...(delayMs >= 0 && { delayMs }) };
}
