import type { SchedulerName } from "./engine.js";
import { createFolderReader } from "./folder-reader.js";
import type { ModelDescription } from "./model-description.js";
import { schedulerFile } from "./model-folder.js";
import { ModelFolderError } from "./model-folder-error.js";
import type { Scheduler } from "./scheduler.js";
import { type SchedulerEntry, schedulers } from "./schedulers.js";

/** The sampling algorithms for one model, all over its own scheduler_config.json, as diffusers' `from_config` does it. */
export interface ModelSchedulers {
  /** The one that the folder names. */
  readonly own: SchedulerName;
  /** The folder's own, and each other one that its configuration makes sense for. */
  readonly byName: ReadonlyMap<SchedulerName, Scheduler>;
}

/** @throws ModelFolderError when the folder names an algorithm that the engine does not have, or its configuration is wrong. */
export function loadSchedulers({ path, scheduler }: ModelDescription): ModelSchedulers {
  const own = schedulers.find((entry) => describes(entry, scheduler));
  if (own === undefined) {
    const names = new Set(schedulers.map(({ className }) => className));
    const expected = `"_class_name" one of ${[...names].join(", ")}`;
    throw new ModelFolderError(path, { file: schedulerFile, expected, found: scheduler.className });
  }
  const reader = createFolderReader(path);
  const create = ({ create, fixed }: SchedulerEntry): Scheduler =>
    create((schema) => reader.check(schedulerFile, { ...scheduler.config, ...fixed }, schema));
  const byName = new Map([[own.name, create(own)]]);
  for (const entry of schedulers) {
    if (entry !== own) {
      try {
        byName.set(entry.name, create(entry));
      } catch (error) {
        // Such as the ancestral method for a model that predicts the picture itself: this model is painted without it.
        if (!(error instanceof ModelFolderError)) {
          throw error;
        }
      }
    }
  }
  return { own: own.name, byName };
}

function describes(
  { className, fixed }: SchedulerEntry,
  { className: own, config }: ModelDescription["scheduler"],
): boolean {
  return own === className && Object.entries(fixed).every(([key, value]) => (config[key] ?? false) === value);
}
