import { styleText } from "node:util";
import type { Environment } from "../../trace/telemetry/environment.js";
import type { Output } from "../command-context.js";

/** Colours and weights of text by Node's names, such as `dim`. */
export type TextFormat = Parameters<typeof styleText>[0];

/** Puts a format on a text. */
export type TextStyle = (format: TextFormat, text: string) => string;

/**
 * Whether a person looks at the output, on a terminal that can move its cursor: then lines are drawn anew in their place. `TERM=dumb` says
 * that a terminal cannot, and `CI` that nobody looks.
 */
export function isInteractive(output: Output, environment: Environment): boolean {
  return output.isTTY === true && environment["TERM"] !== "dumb" && !isSet(environment["CI"]);
}

/**
 * Puts colours on text where the output shows them: on a terminal that is not `dumb`. `NO_COLOR` switches them off, and `FORCE_COLOR`, which
 * wins, on, or off with `0` or `false`.
 *
 * @see https://no-color.org
 * @see https://force-color.org
 */
export function createTextStyle(output: Output, environment: Environment): TextStyle {
  // The stream is judged here: Node's own judgement knows process.env alone.
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

/** Columns that a line may take; 80 where the terminal does not say. The last one stays free: some terminals break the line behind it. */
export function columnsOf(output: Output): number {
  return (output.columns === undefined || output.columns < 1 ? 80 : output.columns) - 1;
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && !["", "0", "false"].includes(value);
}
