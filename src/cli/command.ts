import type { CommandContext } from "./command-context.js";
import type { SettingGroup, SettingsOf } from "./settings/setting.js";

/** What a command takes besides its settings. */
export interface CommandArgument {
  /** What it is called in the help, such as `prompt`. */
  readonly name: string;
  /** What it says, without a full stop. */
  readonly help: string;
  /** Several words are one argument, so that quotes may be forgotten. */
  readonly words?: boolean;
  /** Absent: it has to be given. */
  readonly default?: string;
}

/** One command of the command line. */
export interface Command<Group extends SettingGroup = SettingGroup> {
  readonly name: string;
  /** One sentence without a full stop. */
  readonly summary: string;
  readonly settings: Group;
  readonly argument?: CommandArgument;
  /** Loads its code, which is not loaded before: `--help` should not wait for a model's runtime. */
  readonly load: () => Promise<RunCommand<Group>>;
}

/** Runs a command and resolves with the exit code. `argument` is empty for a command that takes none. */
export type RunCommand<Group extends SettingGroup> = (
  settings: SettingsOf<Group>,
  context: CommandContext,
  argument: string,
) => Promise<number>;
