import type * as z from "zod";
import { createDdim, ddimConfig } from "./ddim.js";
import { createDpmSolverMultistep, dpmSolverMultistepConfig } from "./dpm-solver-multistep.js";
import { createEulerAncestral, createEulerDiscrete, eulerAncestralConfig, eulerDiscreteConfig } from "./euler.js";
import { createFolderReader, ModelFolderError } from "./folder-reader.js";
import { createLcm, lcmConfig } from "./lcm.js";
import type { ModelDescription } from "./model-description.js";
import { schedulerFile } from "./model-folder.js";
import type { Scheduler } from "./scheduler.js";
import { createUniPcMultistep, uniPcMultistepConfig } from "./unipc-multistep.js";

/** Checks one scheduler_config.json against the schema of an algorithm, and throws where it does not fit. */
export type ConfigCheck = <S extends z.ZodType>(schema: S) => z.output<S>;

/** A sampling algorithm, by the name that it has on spans. */
export type SchedulerName =
  | "euler-discrete"
  | "euler-ancestral"
  | "dpmpp-2m"
  | "dpmpp-2m-karras"
  | "ddim"
  | "lcm"
  | "unipc"
  | "dpmpp-2m-sde"
  | "dpmpp-2m-sde-karras";

/** A sampling algorithm that the engine has. */
export interface SchedulerEntry {
  readonly name: SchedulerName;
  /** diffusers' class whose scheduler_config.json it reads. */
  readonly className: string;
  /** Keys of that file that the name decides; the file's values do not count. */
  readonly fixed: Readonly<Record<string, unknown>>;
  /** Values that the class has for absent keys. */
  readonly defaults: Readonly<Record<string, unknown>>;
  create(check: ConfigCheck): Scheduler;
}

/**
 * Every sampling algorithm: one file, a name above and a line here each. Besides, the contract's `Scheduler` and the worker's map of it to these names
 * have a line each; command line and page take theirs from the contract.
 */
export const schedulers: readonly SchedulerEntry[] = [
  entry("euler-discrete", "EulerDiscreteScheduler", eulerDiscreteConfig, createEulerDiscrete),
  entry("euler-ancestral", "EulerAncestralDiscreteScheduler", eulerAncestralConfig, createEulerAncestral),
  dpmSolver("dpmpp-2m", { algorithm_type: "dpmsolver++", use_karras_sigmas: false }),
  dpmSolver("dpmpp-2m-karras", { algorithm_type: "dpmsolver++", use_karras_sigmas: true }),
  entry("ddim", "DDIMScheduler", ddimConfig, createDdim),
  entry("lcm", "LCMScheduler", lcmConfig, createLcm),
  entry("unipc", "UniPCMultistepScheduler", uniPcMultistepConfig, createUniPcMultistep),
  dpmSolver("dpmpp-2m-sde", { algorithm_type: "sde-dpmsolver++", use_karras_sigmas: false }),
  dpmSolver("dpmpp-2m-sde-karras", { algorithm_type: "sde-dpmsolver++", use_karras_sigmas: true }),
];

function dpmSolver(name: SchedulerName, fixed: SchedulerEntry["fixed"]): SchedulerEntry {
  return entry(name, "DPMSolverMultistepScheduler", dpmSolverMultistepConfig, createDpmSolverMultistep, fixed);
}

function entry<S extends z.ZodType<Readonly<Record<string, unknown>>>>(
  name: SchedulerName,
  className: string,
  schema: S,
  create: (config: z.output<S>) => Scheduler,
  fixed: SchedulerEntry["fixed"] = {},
): SchedulerEntry {
  return { name, className, fixed, defaults: schema.parse({}), create: (check) => create(check(schema)) };
}

/** The sampling algorithms for one model, all over its own scheduler_config.json, as diffusers' `from_config` does it. */
export interface ModelSchedulers {
  /** The one that the folder names. */
  readonly own: SchedulerName;
  /** The folder's own, and each other one that its configuration makes sense for. */
  readonly byName: ReadonlyMap<SchedulerName, Scheduler>;
}

/** @throws ModelFolderError when the folder names an algorithm that the engine does not have, or its configuration is wrong. */
export function loadSchedulers({ path, scheduler }: ModelDescription): ModelSchedulers {
  const ofClass = schedulers.filter(({ className }) => className === scheduler.className);
  // A configuration that is no entry's has a wrong value, which the check of any of them names.
  const own = ofClass.find((entry) => describes(entry, scheduler.config)) ?? ofClass[0];
  if (own === undefined) {
    const names = new Set(schedulers.map(({ className }) => className));
    const expected = `"_class_name" one of ${[...names].join(", ")}`;
    throw new ModelFolderError(path, { file: schedulerFile, expected, found: scheduler.className });
  }
  const reader = createFolderReader(path);
  const create = ({ create }: SchedulerEntry, fixed: SchedulerEntry["fixed"]): Scheduler =>
    create((schema) => reader.check(schedulerFile, { ...scheduler.config, ...fixed }, schema));
  const byName = new Map<SchedulerName, Scheduler>([[own.name, create(own, {})]]);
  for (const entry of schedulers) {
    if (entry !== own) {
      try {
        byName.set(entry.name, create(entry, entry.fixed));
      } catch (error) {
        // Such as the ancestral method for a model that predicts the image itself: this model runs without it.
        if (!(error instanceof ModelFolderError)) {
          throw error;
        }
      }
    }
  }
  return { own: own.name, byName };
}

function describes({ fixed, defaults }: SchedulerEntry, config: Readonly<Record<string, unknown>>): boolean {
  return Object.entries(fixed).every(([key, value]) => (config[key] ?? defaults[key] ?? false) === value);
}
