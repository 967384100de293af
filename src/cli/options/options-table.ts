import type { Option } from "commander";
import { telemetryVariables } from "../../trace/telemetry/environment.js";
import { visitCommands } from "../commands.js";
import { hubVariables } from "./model-options.js";
import { defaultOf } from "./option.js";

type Row = Readonly<Record<"flag" | "variable" | "value" | "help", string>>;

/** Variables that name proxies, with one line of help each. */
const proxyVariables = {
  HTTPS_PROXY: "URL of the proxy for downloads from the Hub; `https_proxy` wins over it; default none",
  HTTP_PROXY: "the same if `HF_ENDPOINT` is an `http://` URL, and if there is no other; `http_proxy` wins over it",
  NO_PROXY:
    "hosts that are reached directly, separated by commas; `no_proxy` wins over it, and always includes loopback",
} as const;

/** Every option of every command as a Markdown table; options that commands share are one row. */
export function renderOptionsTable(): string {
  const rows = new Map<string, Row & { readonly commands: string[] }>();
  const add = (command: string, row: Row): void => {
    const key = Object.values(row).join("\n");
    const known = rows.get(key);
    if (known === undefined) {
      rows.set(key, { commands: [command], ...row });
    } else {
      known.commands.push(command);
    }
  };
  visitCommands(({ name, options }) => {
    for (const option of Object.values(options)) {
      add(name, rowOf(option));
    }
  });
  for (const [variables, commands] of [
    [hubVariables, ["demo", "dev", "worker", "doctor"]],
    [proxyVariables, ["demo", "dev", "worker", "doctor"]],
    [telemetryVariables, ["worker", "pipeline"]],
  ] as const) {
    for (const [name, help] of Object.entries(variables)) {
      for (const command of commands) {
        add(command, { flag: "", variable: code(name), value: "", help });
      }
    }
  }
  const lines = [...rows.values()].map(
    ({ commands, flag, variable, value, help }) =>
      `| ${[flag, variable, value, commands.join(", "), help].map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`,
  );
  return ["| Flag | Variable | Default | Commands | Meaning |", "|---|---|---|---|---|", ...lines, ""].join("\n");
}

function rowOf(option: Option): Row {
  const [long = "", short] = option.flags.split(", ").reverse();
  return {
    flag: short === undefined ? code(long) : `${code(long)}, ${code(short)}`,
    variable: option.envVar === undefined ? "" : code(option.envVar),
    value: option.defaultValueDescription ?? code(defaultOf(option)),
    help: option.description,
  };
}

function code(text: string): string {
  return `\`${text}\``;
}
