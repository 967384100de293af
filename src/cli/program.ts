import { CommanderError, Command as Program } from "commander";
import type { Command, CommandContext } from "./command.js";
import { visitCommands } from "./commands.js";
import { exitCodes, usageError } from "./errors.js";
import { unknownVariables, warnOfUnknownVariables } from "./options/known-variables.js";
import { describeOption, type OptionGroup, readOptions, usageMessageOf } from "./options/option.js";
import { renderOptionsTable } from "./options/options-table.js";
import { packageVersion } from "./package-root.js";

/**
 * Runs the command line and resolves with its exit code. Options are read from `argv` and from the variables of this process.
 *
 * @param argv arguments without the program's own name.
 * @throws CliError when the arguments are wrong (exit code 2) or the command fails.
 */
export async function runProgram(argv: readonly string[], context: CommandContext): Promise<number> {
  let exitCode: number = exitCodes.done;
  const program = new Program("throughline")
    .description("Text-to-image as two services with typed contracts, and one trace from prompt to pixels")
    .version(packageVersion(), "-v, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .configureHelp({ optionDescription: describeOption })
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
      // The caller reports errors.
      outputError() {},
    })
    .showSuggestionAfterError()
    // A command's own -v is not the program's.
    .enablePositionalOptions()
    .exitOverride();
  visitCommands((command) => {
    addCommand(program, command, context, (code) => {
      exitCode = code;
    });
  });
  program
    .command("settings", { hidden: true })
    .description("Print the table of all options as Markdown")
    .action(() => {
      context.stdout.write(renderOptionsTable());
    });
  try {
    await program.parseAsync(argv, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) {
      throw error;
    }
    if (error.code === "commander.help") {
      // No command was given: the help is on stderr.
      return exitCodes.usage;
    }
    if (error.exitCode !== 0) {
      throw usageError(usageMessageOf(error));
    }
  }
  return exitCode;
}

function addCommand<Group extends OptionGroup>(
  program: Program,
  { name, summary, options, argument, passThrough, load }: Command<Group>,
  context: CommandContext,
  onEnd: (exitCode: number) => void,
): void {
  const added = parentOf(program, name)
    .command(name.split(" ").at(-1) ?? name)
    .description(summary);
  for (const option of Object.values(options)) {
    added.addOption(option);
  }
  if (argument) {
    const usage = `${argument.name}${argument.words ? "..." : ""}`;
    const { default: value, optional, help } = argument;
    const absent = value ?? optional;
    added.argument(absent === undefined ? `<${usage}>` : `[${usage}]`, absent ? `${help} (default: ${absent})` : help);
  }
  if (passThrough) {
    added.argument("[flags...]", "flags of the command that is checked").allowUnknownOption().passThroughOptions();
  }
  added.action(async () => {
    const values = readOptions(options, added);
    if (context.supervisor === undefined && !passThrough) {
      warnOfUnknownVariables(context);
    }
    const run = await load();
    const given = added.args.length === 0 ? undefined : added.args.join(" ");
    const rest = { args: added.args, unknownVariables: () => unknownVariables(context.environment) };
    onEnd(await run(values, context, given ?? argument?.default ?? "", rest));
  });
}

/** Commands that only group others, with their help. */
const groups: Readonly<Record<string, string>> = {
  config: "Check settings and files",
  jobs: "Look at durable jobs, and cancel or delete them",
};

/** The command below which another stands: `jobs` for `jobs list`. */
function parentOf(program: Program, name: string): Program {
  const [group, member] = name.split(" ");
  if (member === undefined) {
    return program;
  }
  const known = program.commands.find((command) => command.name() === group);
  return (
    known ??
    program
      .command(group ?? "")
      .description(groups[group ?? ""] ?? "")
      .enablePositionalOptions()
  );
}
