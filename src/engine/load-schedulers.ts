import type { SchedulerName } from "./engine.js";
import { createFolderReader } from "./folder-reader.js";
import { type ModelFolder, schedulerFile } from "./model-folder.js";
import { ModelFolderError } from "./model-folder-error.js";
import type { Scheduler } from "./scheduler.js";
import { schedulers } from "./schedulers.js";

/** The sampling algorithms for one model, all over its own scheduler_config.json, as diffusers' `from_config` does it. */
export interface ModelSchedulers {
  /** The one that the folder names. */
  readonly own: SchedulerName;
  readonly byName: ReadonlyMap<SchedulerName, Scheduler>;
}

/** @throws ModelFolderError when the folder names an algorithm that the engine does not have, or one's configuration is wrong. */
export function loadSchedulers({ path, scheduler }: ModelFolder): ModelSchedulers {
  const own = schedulers.find(({ className }) => className === scheduler.className);
  if (own === undefined) {
    const expected = `"_class_name" one of ${schedulers.map(({ className }) => className).join(", ")}`;
    throw new ModelFolderError(path, { file: schedulerFile, expected, found: scheduler.className });
  }
  const reader = createFolderReader(path);
  const byName = new Map(
    schedulers.map(({ name, create }) => [
      name,
      create((schema) => reader.check(schedulerFile, scheduler.config, schema)),
    ]),
  );
  return { own: own.name, byName };
}
