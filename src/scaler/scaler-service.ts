import { create } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { Logger } from "pino";
import {
  type ExternalScaler,
  GetMetricSpecResponseSchema,
  GetMetricsResponseSchema,
  IsActiveResponseSchema,
  type ScaledObjectRef,
} from "../gen/externalscaler/externalscaler_pb.js";
import { callerOf, checkMayUse } from "../mesh/access/callers.js";
import type { AppDirectory } from "../mesh/directory/app-directory.js";
import { invalidField, unavailable } from "../mesh/errors/errors.js";
import { createNotifier } from "../mesh/serve/stream-notifier.js";
import { readScalerMetadata, type ScalerMetadata } from "./scaler-metadata.js";
import type { AppWork, Work } from "./work.js";

/** Options of {@link createScalerService}. */
export interface ScalerServiceOptions {
  readonly directory: AppDirectory;
  readonly work: Work;
  /** Aborted when the pipeline drains, which ends the streams. */
  readonly ending: AbortSignal;
  readonly logger: Pick<Logger, "warn">;
}

/** Name of the metric. KEDA puts the trigger's index before it. */
export const metricName = "throughline-work";

/** Look at the work without a notification, in milliseconds. */
const pollMs = 2_000;
/** Least time between two looks while an app is active, in milliseconds: that it has work is known, and its end is not urgent. */
const activeMs = 1_000;

/** Implementation of KEDA's contract. StreamMetricSpec is left out: targets do not change, and KEDA goes on without it. */
export type ScalerImplementation = Omit<Required<ServiceImpl<typeof ExternalScaler>>, "streamMetricSpec">;

/** Creates the implementation of KEDA's ExternalScaler. */
export function createScalerService({ directory, work, ending, logger }: ScalerServiceOptions): ScalerImplementation {
  /** @throws ConnectError INVALID_ARGUMENT, PERMISSION_DENIED, or NOT_FOUND with the known apps. */
  const read = (ref: ScaledObjectRef | undefined, call: HandlerContext): ScalerMetadata => {
    const metadata = readScalerMetadata(ref);
    // First, because NOT_FOUND lists all apps.
    checkMayUse(callerOf(call), metadata.app);
    directory.lookUp(metadata.app);
    return metadata;
  };
  const workOf = async (app: string): Promise<AppWork> => {
    try {
      return await work.of(app);
    } catch (error) {
      logger.warn({ err: error, app }, "the jobs' database does not answer, so the work of the app is not known");
      throw unavailable("the jobs cannot be counted at the moment", error);
    }
  };

  return {
    async isActive(ref, call) {
      const { app } = read(ref, call);
      return create(IsActiveResponseSchema, { result: (await workOf(app)).isActive });
    },

    async *streamIsActive(ref, call) {
      const { app } = read(ref, call);
      const signal = AbortSignal.any([call.signal, ending]);
      const changes = createNotifier();
      const pause = createNotifier();
      const stop = work.watch(app, changes.notify);
      let sent: boolean | undefined;
      try {
        while (!signal.aborted) {
          // Without an answer of the database, what was sent last stays.
          const now = await work.of(app).catch(() => undefined);
          if (now !== undefined && now.isActive !== sent) {
            sent = now.isActive;
            yield create(IsActiveResponseSchema, { result: sent });
          }
          if (sent === true) {
            await pause.wait(signal, activeMs);
          }
          await changes.wait(signal, Math.min(pollMs, now?.againMs ?? pollMs));
        }
      } finally {
        stop();
      }
    },

    async getMetricSpec(ref, call) {
      const { targetPerReplica } = read(ref, call);
      return create(GetMetricSpecResponseSchema, {
        metricSpecs: [
          {
            metricName,
            targetSizeFloat: targetPerReplica,
            // For versions of KEDA that have whole numbers only.
            targetSize: BigInt(Math.max(1, Math.round(targetPerReplica))),
          },
        ],
      });
    },

    async getMetrics({ scaledObjectRef, metricName: wanted }, call) {
      const { app } = read(scaledObjectRef, call);
      if (wanted !== metricName) {
        throw invalidField("metricName", `must be ${metricName}, as GetMetricSpec returns it`);
      }
      const { count } = await workOf(app);
      return create(GetMetricsResponseSchema, {
        metricValues: [{ metricName, metricValueFloat: count, metricValue: BigInt(count) }],
      });
    },
  };
}
