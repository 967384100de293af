import { styleText } from "node:util";
import { formatTrace } from "../../studio/trace-text.js";
import type { SpanRecord } from "../../trace/span-record.js";
import type { Environment } from "../../trace/telemetry/environment.js";
import type { CommandContext, Output } from "../command.js";

/** Colours and weights of text by Node's names, such as `dim`. */
export type TextFormat = Parameters<typeof styleText>[0];

/** Puts a format on a text. */
export type TextStyle = (format: TextFormat, text: string) => string;

/**
 * Whether the output is a terminal that can move its cursor: then lines are redrawn in place. `TERM=dumb` means that a terminal cannot, and
 * `CI` that no person reads it.
 */
export function isInteractive(output: Output, environment: Environment): boolean {
  return output.isTTY === true && environment["TERM"] !== "dumb" && !isSet(environment["CI"]);
}

/**
 * Puts colors on text where the output shows them: on a terminal that is not `dumb`. `NO_COLOR` switches them off, and `FORCE_COLOR`, which
 * wins, on, or off with `0` or `false`.
 *
 * @see https://no-color.org
 * @see https://force-color.org
 */
export function createTextStyle(output: Output, environment: Environment): TextStyle {
  // `hasColors` has checked the stream: Node's own check reads process.env only.
  return hasColors(output, environment)
    ? (format, text) => styleText(format, text, { validateStream: false })
    : (_, text) => text;
}

function hasColors(output: Output, environment: Environment): boolean {
  const { FORCE_COLOR: force, NO_COLOR: none, TERM: term } = environment;
  if (force !== undefined && force !== "") {
    return isSet(force);
  }
  return (none ?? "") === "" && output.isTTY === true && term !== "dumb";
}

/** Columns that a line may take; 80 if the terminal reports none. The last column stays free: some terminals break the line after it. */
export function columnsOf(output: Output): number {
  return (output.columns === undefined || output.columns < 1 ? 80 : output.columns) - 1;
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && !["", "0", "false"].includes(value);
}

/**
 * A value as a line of JSON. Characters that could control a terminal or reverse its lines are escaped; JSON requires that for the first 32
 * characters only.
 */
export function jsonLine(value: object): string {
  return `${JSON.stringify(value).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, escaped)}\n`;
}

/** Outside of the first 65,536 a character has two escapes. */
function escaped(character: string): string {
  return Array.from(
    { length: character.length },
    (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, "0")}`,
  ).join("");
}

/** How long, for a person who waits: whole seconds, rounded up. @example `4 s`, `2 min 5 s`, `1 h 3 min`, `3 d 2 h` */
export function formatWait(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  if (seconds < 60) {
    return `${seconds} s`;
  }
  const [size, unit, smaller, smallerUnit] =
    seconds < 3600 ? [60, "min", 1, "s"] : seconds < 86_400 ? [3600, "h", 60, "min"] : [86_400, "d", 3600, "h"];
  const rest = Math.floor((seconds % size) / smaller);
  return `${Math.floor(seconds / size)} ${unit}${rest === 0 ? "" : ` ${rest} ${smallerUnit}`}`;
}

/** A trace as a tree for stdout, with a line break behind it: as wide as the terminal and in colors where there is one. */
export function renderTrace(
  spans: readonly SpanRecord[],
  { stdout, environment }: Pick<CommandContext, "stdout" | "environment">,
  options: { readonly details?: boolean } = {},
): string {
  const text = formatTrace(spans, {
    ...options,
    style: createTextStyle(stdout, environment),
    ...(isInteractive(stdout, environment) && { columns: columnsOf(stdout) }),
  });
  return `${text}\n`;
}
