import type { Environment } from "../trace/telemetry/environment.js";
import type { UnknownVariable } from "./options/nearest-name.js";
import type { OptionGroup, OptionValues } from "./options/option.js";
import type { Supervisor } from "./services/service-process.js";

/** Stream that a command writes to. */
export interface Output extends NodeJS.WritableStream {
  readonly isTTY?: boolean | undefined;
  /** Width of the terminal, in characters. */
  readonly columns?: number | undefined;
}

/** The process that a command runs in. */
export interface CommandContext {
  readonly environment: Environment;
  /** The result, and nothing else. */
  readonly stdout: Output;
  /** Progress, logs and errors. */
  readonly stderr: Output;
  /** Aborted by the first signal that ends the command; the reason is the CliError to end with. */
  readonly interrupt: AbortSignal;
  /** Present in a process that `demo` or `dev` started. */
  readonly supervisor: Supervisor | undefined;
}

/** The positional argument of a command. */
export interface CommandArgument {
  /** Name in the help, such as `prompt`. */
  readonly name: string;
  /** Help text without a full stop. */
  readonly help: string;
  /** Several words are one argument, so that quotes are optional. */
  readonly words?: boolean;
  /** Absent: the argument is required. */
  readonly default?: string;
  /** What replaces it where it may be absent, for the help; the command then gets an empty text. */
  readonly optional?: string;
}

/** One command of the command line. */
export interface Command<Group extends OptionGroup = OptionGroup> {
  readonly name: string;
  /** One sentence without a full stop. */
  readonly summary: string;
  readonly options: Group;
  /** What follows the argument is not parsed: the command gets it as it is. It also reports unknown variables itself. */
  readonly passThrough?: boolean;
  readonly argument?: CommandArgument;
  /** Loads its code, which is not loaded before: `--help` should not wait for a model's runtime. */
  readonly load: () => Promise<RunCommand<Group>>;
}

/**
 * Runs a command and resolves with the exit code. `argument` is empty for a command without one.
 */
export type RunCommand<Group extends OptionGroup> = (
  options: OptionValues<Group>,
  context: CommandContext,
  argument: string,
  rest: RestOfCommandLine,
) => Promise<number>;

/** What the command of {@link Command.passThrough} needs besides its own flags. */
export interface RestOfCommandLine {
  /** The argument, and what follows it. */
  readonly args: readonly string[];
  /** Variables of this project and of OpenTelemetry that nothing reads. */
  unknownVariables(): readonly UnknownVariable[];
}
