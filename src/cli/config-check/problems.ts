import { messageOf } from "../errors.js";
import type { SettingProblem } from "../options/setting-problem.js";

/** Problems of a role, as they are found. */
export interface Problems {
  readonly found: readonly SettingProblem[];
  add(problems: readonly SettingProblem[]): void;
  /**
   * Runs code of the start that reads a setting, and adds its error. Returns its value; undefined after an error.
   *
   * @param remedy what to do, in one sentence without a full stop.
   */
  attempt<T>(setting: string, remedy: string, read: () => T | Promise<T>): Promise<T | undefined>;
}

/** Creates an empty list. */
export function createProblems(): Problems {
  const found: SettingProblem[] = [];
  return {
    found,
    add: (problems) => void found.push(...problems),
    async attempt(setting, remedy, read) {
      try {
        return await read();
      } catch (error) {
        const message = messageOf(error);
        // Messages of the start name the setting themselves.
        const problem = message.startsWith(`${setting} `) ? message.slice(setting.length + 1) : message;
        found.push({ setting, problem, remedy });
        return undefined;
      }
    },
  };
}
