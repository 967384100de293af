import type { z } from "zod";
import type { SchedulerName } from "./engine.js";
import { createEulerDiscrete, eulerDiscreteConfig } from "./euler-discrete.js";
import type { Scheduler } from "./scheduler.js";

/** Checks one scheduler_config.json against the schema of an algorithm, and throws where it does not fit. */
export type ConfigCheck = <S extends z.ZodType>(schema: S) => z.output<S>;

/** A sampling algorithm that the engine has. */
export interface SchedulerEntry {
  readonly name: SchedulerName;
  /** diffusers' class whose scheduler_config.json it reads. */
  readonly className: string;
  create(check: ConfigCheck): Scheduler;
}

/** Every sampling algorithm that works: one file and one line here each. */
export const schedulers: readonly SchedulerEntry[] = [
  entry("euler-discrete", "EulerDiscreteScheduler", eulerDiscreteConfig, createEulerDiscrete),
];

function entry<S extends z.ZodType>(
  name: SchedulerName,
  className: string,
  schema: S,
  create: (config: z.output<S>) => Scheduler,
): SchedulerEntry {
  return { name, className, create: (check) => create(check(schema)) };
}
