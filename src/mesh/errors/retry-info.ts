import type { ConnectError } from "@connectrpc/connect";
import { type RetryInfo, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import type { ErrorDetail } from "./connect-error.js";

/** The google.rpc.RetryInfo detail: try again in `retryDelayMs` milliseconds (0 or more). */
export function retryInfo(retryDelayMs: number): ErrorDetail<typeof RetryInfoSchema> {
  const delayMs = Math.max(0, Math.round(retryDelayMs));
  return {
    desc: RetryInfoSchema,
    value: { retryDelay: { seconds: BigInt(Math.floor(delayMs / 1000)), nanos: (delayMs % 1000) * 1_000_000 } },
  };
}

/** The delay in milliseconds that an error's google.rpc.RetryInfo asks for; undefined without one. */
export function retryDelayMsOf(error: ConnectError): number | undefined {
  const info: RetryInfo | undefined = error.findDetails(RetryInfoSchema)[0];
  if (info?.retryDelay === undefined) {
    return undefined;
  }
  return Number(info.retryDelay.seconds) * 1000 + info.retryDelay.nanos / 1_000_000;
}
