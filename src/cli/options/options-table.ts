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

/** Topics in the order of docs/settings.md, with their flags and variables. The first topic that fits has the setting. */
const topics: readonly (readonly [topic: string, names: RegExp])[] = [
  ["Queue and engine", /^--(?:max-waiting|engine-.*|grace|http1-keepalive)$/],
  ["Models and devices", /^--(?:model|lora-folder|device|precision|threads|hub)$|^--lora <name=|^HF_|_PROXY$/],
  [
    "Addresses and ports",
    /^--(?:host|port|pipeline-port|worker-port|collector-port|app|server|timeout|trust-traceparent|cors-origin|openai|fal|fal-run-host|keda-port)$/,
  ],
  [
    "Workers, retries and balancing",
    /^--(?:worker|default-app|apps|worker-app|show-apps|pipeline|register|register-.*)$/,
  ],
  [
    "Security",
    /^--(?:(?:worker-)?tls-.*|(?:worker-)?key-file|callers|name|insecure-open|keda-insecure-open|reflection|ignore-unknown-fields)$/,
  ],
  [
    "Images",
    /^--(?:width|height|seed|steps|guidance|guidance-rescale|clip-skip|negative|scheduler|lora|init-image|strength|settings-from|format|quality|out|delivery|preview-interval|inline|images?|image-.*|s3-.*|url-ttl|public-url)$/,
  ],
  [
    "Jobs",
    /^--(?:jobs|jobs-.*|job-trace|webhook|webhook-.*|wait|priority|request-id|start-timeout|run-timeout|result-ttl)$/,
  ],
  [
    "Traces",
    /^--(?:collector|limit|verbose|studio.*|trace-.*|genai-attributes)$|^ENABLE_TRACING$|^THROUGHLINE_|^OTEL_(?:SDK|TRACES|BSP|SAMPLE|RESOURCE)_/,
  ],
  ["Metrics", /^--metrics-port$|METRIC_|PROMETHEUS|METRICS_EXPORTER|TEMPORALITY/],
  ["Logs and output", /^--(?:log-.*|json|quiet)$|LOGS_EXPORTER|_BLRP_/],
  ["OTLP connection", /^OTEL_EXPORTER_OTLP_/],
];

/**
 * Every option of every command as Markdown: a table for each topic. Options that commands share are one row.
 *
 * @throws Error that names a setting without a topic.
 */
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
  const all = [...rows.values()].map((row) => ({ topic: topicOf(row.flag || row.variable), ...row }));
  return topics
    .flatMap(([heading]) => [
      `### Reference: ${heading}`,
      "",
      "| Flag | Variable | Default | Commands | Meaning |",
      "|---|---|---|---|---|",
      ...all.filter(({ topic }) => topic === heading).map(lineOf),
      "",
    ])
    .join("\n");
}

function lineOf({ commands, flag, variable, value, help }: Row & { readonly commands: readonly string[] }): string {
  const cells = [flag, variable, value, commands.join(", "), help].map((cell) => cell.replaceAll("|", "\\|"));
  return `| ${cells.join(" | ")} |`;
}

/** @param cell with the name in code marks, such as `--port <port>`. */
function topicOf(cell: string): string {
  const [name = ""] = /--[a-z][a-z0-9-]*|[A-Z][A-Z_]+/.exec(cell) ?? [];
  // Two flags can have one name: then their values tell them apart.
  const found = topics.find(([, names]) => names.test(name) || names.test(cell.replaceAll("`", "")));
  if (found === undefined) {
    throw new Error(`the setting ${name} has no topic: add it to the topics of options-table.ts`);
  }
  return found[0];
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
