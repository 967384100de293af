import { create } from "@bufbuild/protobuf";
import { type Any, AnySchema, anyPack } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectError } from "@connectrpc/connect";
import { type Status, StatusSchema } from "../gen/google/rpc/status_pb.js";
import { ImageStoreError } from "../image/image-store-error.js";
import { hasReason, storeFailure, toClientError } from "../mesh/errors/errors.js";
import type { StoredJob } from "./job-rows.js";

/** What follows from a failed attempt. */
export type AttemptFailure =
  /** The job has failed. */
  | { readonly kind: "final"; readonly error: ConnectError }
  /** The job goes back to the queue. */
  | { readonly kind: "retry"; readonly enginesLost: number; readonly afterMs: number };

/** The second engine that a job ends is the last. */
const maxEnginesLost = 2;
/** Attempts after which a job that never ends is given up, such as one whose worker's machine it brings down. */
const maxAttempts = 20;
/** Time before another attempt if the image could not be stored, in milliseconds. */
const storeWaitMs = 5_000;

/**
 * Decides what follows from a failed attempt.
 *
 * @param hadProgress whether the worker had reported progress. Before that, the mesh has tried a second worker.
 */
export function failureOf(
  error: unknown,
  job: Pick<StoredJob, "attempt" | "enginesLost">,
  hadProgress: boolean,
): AttemptFailure {
  const isOfStore = error instanceof ImageStoreError;
  const failure = isOfStore ? storeFailure(error.reason, error) : toClientError(error);
  const lost = hasReason(failure, "ENGINE_LOST") ? (hadProgress ? 1 : 2) : 0;
  const isTransient = failure.code === Code.Unavailable;
  if (isTransient && job.attempt < maxAttempts && job.enginesLost + lost < maxEnginesLost) {
    return { kind: "retry", enginesLost: lost, afterMs: isOfStore ? storeWaitMs : 0 };
  }
  return { kind: "final", error: failure };
}

/** Converts an error to the contract's form. Its cause stays here. */
export function statusOf(error: ConnectError): Status {
  const details = error.details.map(
    (detail): Any =>
      "desc" in detail
        ? anyPack(detail.desc, create(detail.desc, detail.value))
        : create(AnySchema, { typeUrl: `type.googleapis.com/${detail.type}`, value: detail.value }),
  );
  return create(StatusSchema, { code: error.code, message: error.rawMessage, details });
}
