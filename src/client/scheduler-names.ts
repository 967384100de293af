import { Scheduler, SchedulerSchema } from "../gen/throughline/v1/image_pb.js";

/** Schedulers by name in commands and links, such as `euler-discrete` for `SCHEDULER_EULER_DISCRETE`. */
export const schedulersByName: ReadonlyMap<string, Scheduler> = new Map(
  SchedulerSchema.values
    .filter(({ number }) => number !== Scheduler.UNSPECIFIED)
    .map(({ name, number }) => [name.replace("SCHEDULER_", "").toLowerCase().replaceAll("_", "-"), number]),
);
