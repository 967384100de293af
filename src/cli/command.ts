import type { CommandContext } from "./command-context.js";
import type { SettingGroup, SettingsOf } from "./settings/setting.js";

/** A command that takes a prompt besides its settings. */
export interface PromptArgument {
  /** Absent: the prompt has to be given. */
  readonly default?: string;
}

/** One command of the command line. */
export interface Command<Group extends SettingGroup = SettingGroup> {
  readonly name: string;
  /** One sentence without a full stop. */
  readonly summary: string;
  readonly settings: Group;
  readonly prompt?: PromptArgument;
  /** Loads its code, which is not loaded before: `--help` should not wait for a model's runtime. */
  readonly load: () => Promise<RunCommand<Group>>;
}

/** Runs a command and resolves with the exit code. `prompt` is empty for a command that takes none. */
export type RunCommand<Group extends SettingGroup> = (
  settings: SettingsOf<Group>,
  context: CommandContext,
  prompt: string,
) => Promise<number>;
