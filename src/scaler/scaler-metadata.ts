import type { ScaledObjectRef } from "../gen/externalscaler/externalscaler_pb.js";
import { appIdPattern } from "../mesh/app-id.js";
import { invalidFields } from "../mesh/errors/errors.js";

/** What a trigger of a ScaledObject asks for, in its `metadata`. KEDA's own fields, such as `scalerAddress`, stand beside these. */
export interface ScalerMetadata {
  /** App whose work counts. */
  readonly app: string;
  /** Work for which one replica is enough. */
  readonly targetPerReplica: number;
}

/** Largest target. */
const maxTarget = 1_000_000;

/**
 * Reads the metadata of a ScaledObject's trigger. Both fields are required: a misspelt one would otherwise scale by a default.
 *
 * @throws ConnectError INVALID_ARGUMENT that names each wrong field, and what to write.
 */
export function readScalerMetadata(ref: Pick<ScaledObjectRef, "scalerMetadata"> | undefined): ScalerMetadata {
  const { app = "", targetPerReplica = "" } = ref?.scalerMetadata ?? {};
  const target = /^\d+(?:\.\d+)?$/.test(targetPerReplica) ? Number(targetPerReplica) : 0;
  const problems = [
    ...(appIdPattern.test(app)
      ? []
      : [
          {
            path: "scalerMetadata.app",
            message:
              "must be an app id of the pipeline, such as local/text-to-image-worker; set it in the trigger's metadata",
          },
        ]),
    ...(target > 0 && target <= maxTarget
      ? []
      : [
          {
            path: "scalerMetadata.targetPerReplica",
            message: `must be a number above 0 and up to ${maxTarget}, in quotes, such as "1": the jobs and calls that one replica takes; set it in the trigger's metadata`,
          },
        ]),
  ];
  if (problems.length > 0) {
    throw invalidFields(problems);
  }
  return { app, targetPerReplica: target };
}
