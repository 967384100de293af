import { telemetryVariables } from "../../trace/telemetry/environment.js";
import { visitCommands } from "../commands.js";
import { hubVariables } from "./hub-variables.js";
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

/** Variables that name proxies, with one line of help each. */
export const proxyVariables = {
  HTTPS_PROXY: "URL of the proxy for downloads from the Hub; `https_proxy` wins over it; default none",
  HTTP_PROXY:
    "the same where `HF_ENDPOINT` is an `http://` URL, and where there is no other; `http_proxy` wins over it",
  NO_PROXY:
    "hosts that are reached directly, with commas between them; `no_proxy` wins over it, and loopback is always among them",
} as const;
