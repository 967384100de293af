import type { ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import type { ErrorDetail } from "./connect-error.js";

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
