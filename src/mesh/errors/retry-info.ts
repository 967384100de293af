import type { ConnectError } from "@connectrpc/connect";
import { type RetryInfo, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import type { ErrorDetail } from "./connect-error.js";

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
