import type { z } from "zod";

interface SettingBase<Value> {
  /** Name on the command line, without dashes: `image-max-bytes`. */
  readonly flag: string;
  /** The same with one dash: `v`. Absent: none. */
  readonly letter?: string;
  /** What stands for the flag's value in the help, such as `seconds`. Absent: a switch, which takes none. */
  readonly argument?: string;
  /** Environment variable that says the same. Absent: there is only the flag. */
  readonly variable?: string;
  /** Reads the value as it was typed; its messages complete "the flag …": `must be a whole number`. */
  readonly schema: z.ZodType<Value, string>;
  /** The flag may be repeated, and the variable lists its values with commas; the schema reads such a list. */
  readonly repeatable?: boolean;
  /** One sentence without a full stop, with the unit. */
  readonly help: string;
}

/** One thing that can be configured, said once: flag, variable, default, check and help all come from here. */
export interface Setting<Value> extends SettingBase<Value> {
  /** The default, as a user would type it. */
  readonly default?: string;
  /** What holds when nothing is given, in words; only for settings without a default. */
  readonly absent?: string;
}

/** Settings of one command by the name that the code uses. */
export type SettingGroup = Readonly<Record<string, Setting<unknown>>>;

/** What a group of settings is once it is read. */
export type SettingsOf<Group extends SettingGroup> = {
  readonly [Name in keyof Group]: Group[Name] extends Setting<infer Value> ? Value : never;
};

/** A setting that always has a value. */
export function setting<Value>(definition: SettingBase<Value> & { readonly default: string }): Setting<Value> {
  return definition;
}

/** A setting that may be absent. */
export function optionalSetting<Value>(
  definition: SettingBase<Value> & { readonly absent: string },
): Setting<Value | undefined> {
  return definition;
}
