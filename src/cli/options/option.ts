import { Command, CommanderError, Option } from "commander";
import { usageError } from "../errors.js";
import { rejectProblems, type SettingProblem } from "./setting-problem.js";

declare const valueType: unique symbol;

/** Commander option with the type of its value. */
export type TypedOption<Value> = Option & { readonly [valueType]?: readonly [Value] };

/** Options of a command by the name that the code uses. */
export type OptionGroup = Readonly<Record<string, TypedOption<unknown>>>;

/** The values of a group of options. */
export type OptionValues<Group extends OptionGroup> = {
  readonly [Name in keyof Group]: Group[Name] extends TypedOption<infer Value> ? Value : never;
};

/** Parses a typed value, or returns the expected form. */
export type Parse<Value> = (text: string) => Value | Invalid;

/** Text that is not a value; `expected` completes "the option …": `must be a whole number`. */
export class Invalid {
  readonly expected: string;
  constructor(expected: string) {
    this.expected = expected;
  }
}

interface OptionDefinition<Value> {
  /** Environment variable with the same meaning. */
  readonly env?: string;
  readonly parse: Parse<Value>;
  /** Shown by the help and by completions. */
  readonly choices?: readonly string[];
  /** The flag may be repeated; the variable lists the values, separated by commas. `parse` reads such a list. */
  readonly repeatable?: boolean;
}

/** Defines an option. `help` is one sentence without a full stop, with the unit; `absent` says what applies without a default. */
export function option<Value>(
  flags: string,
  help: string,
  definition: OptionDefinition<Value> & { readonly default: Value & (string | number) },
): TypedOption<Value>;
export function option<Value>(
  flags: string,
  help: string,
  definition: OptionDefinition<Value> & { readonly absent: string },
): TypedOption<Value | undefined>;
export function option(
  flags: string,
  help: string,
  definition: OptionDefinition<unknown> & { readonly default?: string | number; readonly absent?: string },
): TypedOption<unknown> {
  const { env, parse, choices, repeatable, default: value, absent } = definition;
  const made = new Option(flags, help).default(value, absent);
  if (choices !== undefined) {
    made.choices(choices);
  }
  if (env !== undefined) {
    made.env(env);
  }
  let texts: readonly string[] = [];
  return made.argParser((text: string, previous: unknown) => {
    // Commander passes the value so far: the default, unless the flag was given before.
    texts = repeatable && previous !== made.defaultValue ? [...texts, text] : [text];
    const typed = texts.join(",");
    const parsed = parse(typed);
    return parsed instanceof Invalid ? new InvalidValue(typed, parsed.expected) : parsed;
  });
}

/**
 * Defines a switch. One with a variable also takes `true` or `false`, so that the flag can turn the variable off.
 *
 * @param isOn whether it is on by default. @default false
 */
export function flag(flags: string, help: string, env?: string, isOn = false): TypedOption<boolean> {
  if (env === undefined) {
    return new Option(flags, help).default(isOn);
  }
  return new Option(`${flags} [true|false]`, help)
    .default(isOn)
    .env(env)
    .argParser((text: string) => {
      const value = truths.get(text);
      return value ?? new InvalidValue(text, "must be true or false");
    });
}

const truths = new Map([
  ["true", true],
  ["1", true],
  ["false", false],
  ["0", false],
]);

/** A wrong value, kept until all options are read: one error then names all of them. */
/** A text without the user and the password of a URL in it. */
function withoutCredentials(text: string): string {
  return text.replace(/\/\/[^/\s]*@/g, "//…@");
}

class InvalidValue {
  readonly text: string;
  readonly expected: string;
  constructor(text: string, expected: string) {
    this.text = text;
    this.expected = expected;
  }
}

/**
 * Returns the values of a group's options after `command` has parsed its arguments: a flag overrides its variable, and a variable overrides
 * the default. An empty variable counts as absent, as in OpenTelemetry.
 *
 * @throws CliError that names the flag, the variable, the limit and the value of each option that is wrong.
 */
export function readOptions<Group extends OptionGroup>(
  group: Group,
  command: Command,
  hasFlags = true,
): OptionValues<Group> {
  const { values, problems } = readOptionValues(group, command, hasFlags);
  rejectProblems(problems);
  return values;
}

/** Values of a group's options, and what is wrong with those that have their default instead. */
export interface ReadOptions<Group extends OptionGroup> {
  readonly values: OptionValues<Group>;
  readonly problems: readonly SettingProblem[];
}

function readOptionValues<Group extends OptionGroup>(
  group: Group,
  command: Command,
  hasFlags: boolean,
): ReadOptions<Group> {
  const problems: SettingProblem[] = [];
  const entries = Object.entries(group).map(([name, made]) => {
    const key = made.attributeName();
    const value: unknown = command.getOptionValue(key);
    const fromVariable = command.getOptionValueSource(key) === "env";
    if (fromVariable && process.env[made.envVar ?? ""] === "") {
      return [name, made.defaultValue];
    }
    if (value instanceof InvalidValue) {
      const source = !fromVariable ? made.long : hasFlags ? `${made.envVar} (${made.long})` : made.envVar;
      problems.push({
        setting: source ?? name,
        problem: `${value.expected}, got ${JSON.stringify(withoutCredentials(value.text))}`,
        remedy: `correct it, or leave it out for the default: ${defaultOf(made)}`,
      });
      return [name, made.defaultValue];
    }
    return [name, value];
  });
  // The one place where names and values come together again; no type can follow a mapped object through its entries.
  return { values: Object.fromEntries(entries) as OptionValues<Group>, problems };
}

/**
 * Parses arguments and the environment of this process as {@link parseOptions} does, and goes on at what is wrong.
 *
 * @throws CliError for a flag without its value.
 */
export function parseAllOptions<Group extends OptionGroup>(
  group: Group,
  argv: readonly string[],
): ReadOptions<Group> & { readonly unknown: readonly string[] } {
  const command = new Command()
    .exitOverride()
    .configureOutput({ outputError() {} })
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments();
  for (const made of Object.values(group)) {
    command.addOption(made);
  }
  try {
    command.parse(argv, { from: "user" });
  } catch (error) {
    throw error instanceof CommanderError ? usageError(usageMessageOf(error)) : error;
  }
  return { ...readOptionValues(group, command, true), unknown: command.args };
}

/**
 * Parses arguments, such as `["--port", "0"]`, and the environment of this process.
 *
 * @param argv absent: there are no flags, and errors name the variables alone.
 * @throws CliError as {@link readOptions} does, and for an argument that is not an option of the group.
 */
export function parseOptions<Group extends OptionGroup>(group: Group, argv?: readonly string[]): OptionValues<Group> {
  const command = new Command().exitOverride().configureOutput({ outputError() {} });
  for (const made of Object.values(group)) {
    command.addOption(made);
  }
  try {
    command.parse(argv ?? [], { from: "user" });
  } catch (error) {
    throw error instanceof CommanderError ? usageError(usageMessageOf(error)) : error;
  }
  return readOptions(group, command, argv !== undefined);
}

/** The message of an error of commander, without its prefix. */
export function usageMessageOf(error: CommanderError): string {
  return error.message.replace(/^error: /, "");
}

/** The default of an option as a user would type it, or what applies without one. */
export function defaultOf(made: Option): string {
  return made.defaultValueDescription ?? String(made.defaultValue);
}

/** An option's line of the help: its text, then its default and its variable. */
export function describeOption(made: Option): string {
  const notes = [
    ...(made.isBoolean() ? [] : [`default: ${defaultOf(made)}`]),
    ...(made.envVar === undefined ? [] : [made.envVar]),
  ];
  return notes.length === 0 ? made.description : `${made.description} (${notes.join("; ")})`;
}
