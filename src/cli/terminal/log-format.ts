import type { CommandContext } from "../command.js";
import { createTextStyle, jsonLine, type TextFormat, type TextStyle } from "./terminal.js";

/** Forms of a service's log on stderr. */
export const logFormats = ["json", "pretty"] as const;
export type LogFormat = (typeof logFormats)[number];

/** Converts a log line, JSON with or without a newline, to the text that is written, of one line with a newline. */
export type FormatLogLine = (line: string) => string;

/**
 * Creates the conversion of log lines for stderr: JSON as it is, or a line for people, in colors where a terminal shows them.
 *
 * Own code because pino-pretty brings 13 packages, writes several lines for an error, and does not escape what could control a terminal.
 */
export function createLogFormat(
  format: LogFormat,
  { stderr, environment }: Pick<CommandContext, "stderr" | "environment">,
): FormatLogLine {
  if (format === "json") {
    return (line) => (line.endsWith("\n") ? line : `${line}\n`);
  }
  const style = createTextStyle(stderr, environment);
  return (line) => `${prettyLine(line, style)}\n`;
}

const levelStyles: Readonly<Record<string, TextFormat>> = {
  trace: "dim",
  debug: "dim",
  info: "green",
  warn: "yellow",
  error: "red",
  fatal: "red",
};

/** Width of the longest level. */
const levelWidth = 5;

/** Fields without a name of their own in the line, and those that only programs need. */
const placed = new Set(["level", "time", "service", "msg", "span_id", "trace_flags"]);

/** One log line for people; text that is no JSON object, such as Node's own warnings, as it is. */
function prettyLine(line: string, style: TextStyle): string {
  const fields = parsed(line);
  if (fields === undefined) {
    return line.replace(/\n$/, "");
  }
  const level = textOf(fields["level"]);
  const rest = Object.entries(fields)
    .filter(([name]) => !placed.has(name))
    .map(([name, value]) => style("dim", `${escapedName(name)}=`) + textOf(value));
  return [
    style("dim", timeOf(fields["time"])),
    style(levelStyles[level] ?? "reset", level.toUpperCase().padEnd(levelWidth)),
    style("cyan", textOf(fields["service"] ?? "")),
    style("bold", messageOf(fields["msg"])),
    ...rest,
  ]
    .filter((part) => part !== "")
    .join(" ");
}

function parsed(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

/** Time of day in the zone of this process, with milliseconds; the date stands in JSON lines only. */
function timeOf(time: unknown): string {
  const date = new Date(typeof time === "string" ? time : Number.NaN);
  if (Number.isNaN(date.getTime())) {
    return "";
  }
  const two = (value: number) => String(value).padStart(2, "0");
  const milliseconds = String(date.getMilliseconds()).padStart(3, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${milliseconds}`;
}

/** Escaped as JSON, without its quotes. */
function messageOf(value: unknown): string {
  return value === undefined ? "" : jsonLine({ text: String(value) }).slice('{"text":"'.length, -'"}\n'.length);
}

function escapedName(name: string): string {
  return messageOf(name);
}

/** An error's type and message, without its stack; a plain word as it is, and any other value as JSON. */
function textOf(value: unknown): string {
  if (typeof value === "string" && /^[\p{L}\p{N}._:/@+-]*$/u.test(value)) {
    return value;
  }
  if (typeof value === "object" && value !== null && "stack" in value && "message" in value) {
    const type = "type" in value ? `${value.type}: ` : "";
    return textOf(`${type}${value.message}`);
  }
  // Without the array, which jsonLine needs.
  return jsonLine([value]).slice(1, -2);
}
