import type { z } from "zod";
import { createDdim, ddimConfig } from "./ddim.js";
import { createDpmSolverMultistep, dpmSolverMultistepConfig } from "./dpm-solver-multistep.js";
import type { SchedulerName } from "./engine.js";
import { createEulerAncestral, eulerAncestralConfig } from "./euler-ancestral.js";
import { createEulerDiscrete, eulerDiscreteConfig } from "./euler-discrete.js";
import { createLcm, lcmConfig } from "./lcm.js";
import type { Scheduler } from "./scheduler.js";

/** Checks one scheduler_config.json against the schema of an algorithm, and throws where it does not fit. */
export type ConfigCheck = <S extends z.ZodType>(schema: S) => z.output<S>;

/** A sampling algorithm that the engine has. */
export interface SchedulerEntry {
  readonly name: SchedulerName;
  /** diffusers' class whose scheduler_config.json it reads. */
  readonly className: string;
  /** Keys of that file that the name itself decides, whatever the file says. */
  readonly fixed: Readonly<Record<string, unknown>>;
  create(check: ConfigCheck): Scheduler;
}

/** Every sampling algorithm that works: one file and one line here each. */
export const schedulers: readonly SchedulerEntry[] = [
  entry("euler-discrete", "EulerDiscreteScheduler", eulerDiscreteConfig, createEulerDiscrete),
  entry("euler-ancestral", "EulerAncestralDiscreteScheduler", eulerAncestralConfig, createEulerAncestral),
  entry("dpmpp-2m", "DPMSolverMultistepScheduler", dpmSolverMultistepConfig, createDpmSolverMultistep, {
    use_karras_sigmas: false,
  }),
  entry("dpmpp-2m-karras", "DPMSolverMultistepScheduler", dpmSolverMultistepConfig, createDpmSolverMultistep, {
    use_karras_sigmas: true,
  }),
  entry("ddim", "DDIMScheduler", ddimConfig, createDdim),
  entry("lcm", "LCMScheduler", lcmConfig, createLcm),
];

function entry<S extends z.ZodType>(
  name: SchedulerName,
  className: string,
  schema: S,
  create: (config: z.output<S>) => Scheduler,
  fixed: SchedulerEntry["fixed"] = {},
): SchedulerEntry {
  return { name, className, fixed, create: (check) => create(check(schema)) };
}
