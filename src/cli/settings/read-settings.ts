import type { Environment } from "../../trace/telemetry/environment.js";
import { usageError } from "../command-error.js";
import type { Setting, SettingGroup, SettingsOf } from "./setting.js";

/** Flags as the command line has them, by flag name: a text, several of a repeatable one, or true for a switch. */
export type GivenFlags = Readonly<Record<string, string | readonly string[] | true | undefined>>;

/**
 * Reads a command's settings: a flag beats its variable, a variable beats the default. An empty variable counts as absent, as
 * OpenTelemetry has it.
 *
 * @throws CommandError that names the flag or variable and the value given.
 */
export function readSettings<Group extends SettingGroup>(
  group: Group,
  flags: GivenFlags,
  environment: Environment,
): SettingsOf<Group> {
  const values = Object.entries(group).map(([name, setting]) => [name, readOne(setting, flags, environment)]);
  // The one place where names and values come together again; no type can follow a mapped object through its entries.
  return Object.fromEntries(values) as SettingsOf<Group>;
}

function readOne(setting: Setting<unknown>, flags: GivenFlags, environment: Environment): unknown {
  const given = flags[setting.flag];
  if (given !== undefined) {
    return parse(setting, `--${setting.flag}`, typeof given === "object" ? given.join(",") : String(given));
  }
  const fromEnvironment = setting.variable === undefined ? undefined : environment[setting.variable];
  if (setting.variable !== undefined && fromEnvironment !== undefined && fromEnvironment !== "") {
    return parse(setting, setting.variable, fromEnvironment);
  }
  return setting.default === undefined
    ? undefined
    : parse(setting, `the default of --${setting.flag}`, setting.default);
}

function parse(setting: Setting<unknown>, source: string, text: string): unknown {
  const result = setting.schema.safeParse(text);
  if (!result.success) {
    throw usageError(`${source} ${result.error.issues[0]?.message ?? "is not valid"}, got ${JSON.stringify(text)}`);
  }
  return result.data;
}
