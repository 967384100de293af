import { CommanderError, Option, Command as Program } from "commander";
import type { Command } from "./command.js";
import type { CommandContext } from "./command-context.js";
import { visitCommands } from "./commands.js";
import { exitCodes } from "./exit-codes.js";
import { packageVersion } from "./package-root.js";
import { type GivenFlags, readSettings } from "./settings/read-settings.js";
import type { Setting, SettingGroup } from "./settings/setting.js";
import { renderSettingsTable } from "./settings/settings-table.js";

/**
 * Runs the command line and resolves with its exit code. Bad usage is told on stderr and is exit code 2.
 *
 * @param argv what the user typed, without the program's own name.
 * @throws CommandError when the command fails.
 */
export async function runProgram(argv: readonly string[], context: CommandContext): Promise<number> {
  let exitCode: number = exitCodes.done;
  const program = new Program("throughline")
    .description("Text-to-image as two services with typed contracts, and one trace from prompt to pixels")
    .version(packageVersion(), "-v, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
      outputError: (text, write) => write(text.replace(/^error:/, "throughline:")),
    })
    .showSuggestionAfterError()
    // A command's own -v is not the program's.
    .enablePositionalOptions()
    .exitOverride();
  visitCommands((command) =>
    addCommand(program, command, async (flags, argument) => {
      const settings = readSettings(command.settings, flags, context.environment);
      const run = await command.load();
      exitCode = await run(settings, context, argument);
    }),
  );
  program
    .command("settings", { hidden: true })
    .description("Print the table of all settings as Markdown")
    .action(() => {
      context.stdout.write(renderSettingsTable());
    });
  try {
    await program.parseAsync(argv, { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) {
      return error.exitCode === 0 ? exitCodes.done : exitCodes.usage;
    }
    throw error;
  }
  return exitCode;
}

function addCommand<Group extends SettingGroup>(
  program: Program,
  command: Command<Group>,
  run: (flags: GivenFlags, argument: string) => Promise<void>,
): void {
  const added = program.command(command.name).description(command.summary);
  const options = Object.values(command.settings).map((setting) => ({ setting, option: optionOf(setting) }));
  for (const { option } of options) {
    added.addOption(option);
  }
  if (command.argument) {
    const { name, help, words, default: absent } = command.argument;
    const usage = `${name}${words ? "..." : ""}`;
    added.argument(absent === undefined ? `<${usage}>` : `[${usage}]`, absent ? `${help} (default: ${absent})` : help);
  }
  added.action(async () => {
    const values = added.opts<GivenFlags>();
    const flags = options.map(({ setting, option }) => [setting.flag, values[option.attributeName()]] as const);
    const given = added.args.length === 0 ? undefined : added.args.join(" ");
    await run(Object.fromEntries(flags), given ?? command.argument?.default ?? "");
  });
}

function optionOf(setting: Setting<unknown>): Option {
  const notes = [
    setting.default === undefined
      ? `default: ${setting.absent}`
      : setting.argument === undefined
        ? undefined
        : `default: ${setting.default}`,
    setting.variable,
  ].filter((note) => note !== undefined);
  const short = setting.letter === undefined ? "" : `-${setting.letter}, `;
  const flag = `${short}--${setting.flag}${setting.argument === undefined ? "" : ` <${setting.argument}>`}`;
  const option = new Option(flag, notes.length === 0 ? setting.help : `${setting.help} (${notes.join("; ")})`);
  if (setting.repeatable) {
    option.argParser((value: string, earlier: readonly string[] = []) => [...earlier, value]);
  }
  return option;
}
