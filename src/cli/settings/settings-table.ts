import { telemetryVariables } from "../../trace/telemetry/telemetry-variables.js";
import { visitCommands } from "../commands.js";
import { hubVariables } from "./hub-variables.js";
import { proxyVariables } from "./proxy-variables.js";
import type { Setting } from "./setting.js";

interface Row {
  readonly commands: string[];
  readonly flag: string;
  readonly variable: string;
  readonly value: string;
  readonly help: string;
}

/** Every setting of every command as a Markdown table, made from the code; settings that commands share stand in it once. */
export function renderSettingsTable(): string {
  const rows = new Map<string, Row>();
  const add = (command: string, row: Omit<Row, "commands">): void => {
    const key = [row.flag, row.variable, row.value, row.help].join("\n");
    const known = rows.get(key);
    if (known === undefined) {
      rows.set(key, { commands: [command], ...row });
    } else {
      known.commands.push(command);
    }
  };
  visitCommands(({ name, settings }) => {
    for (const setting of Object.values(settings)) {
      add(name, rowOf(setting));
    }
  });
  const addVariables = (variables: Readonly<Record<string, string>>, commands: readonly string[]): void => {
    for (const [name, help] of Object.entries(variables)) {
      for (const command of commands) {
        add(command, { flag: "", variable: code(name), value: "", help });
      }
    }
  };
  addVariables(hubVariables, ["demo", "dev", "worker", "doctor"]);
  addVariables(proxyVariables, ["demo", "dev", "worker", "doctor"]);
  addVariables(telemetryVariables, ["worker", "pipeline"]);
  const lines = [...rows.values()].map(
    ({ commands, flag, variable, value, help }) =>
      `| ${[flag, variable, value, commands.join(", "), help].map(escapeCell).join(" | ")} |`,
  );
  return ["| Flag | Variable | Default | Commands | Meaning |", "|---|---|---|---|---|", ...lines, ""].join("\n");
}

function rowOf(setting: Setting<unknown>): Omit<Row, "commands"> {
  return {
    flag: flagOf(setting),
    variable: setting.variable === undefined ? "" : code(setting.variable),
    value: setting.default === undefined ? (setting.absent ?? "") : code(setting.default),
    help: setting.help,
  };
}

function flagOf({ flag, letter, argument }: Setting<unknown>): string {
  const long = code(argument === undefined ? `--${flag}` : `--${flag} <${argument}>`);
  return letter === undefined ? long : `${long}, ${code(`-${letter}`)}`;
}

function code(text: string): string {
  return `\`${text}\``;
}

function escapeCell(text: string): string {
  return text.replaceAll("|", "\\|");
}
