import { formatTrace } from "../../studio/trace-text.js";
import type { SpanRecord } from "../../trace/span-record.js";
import type { CommandContext } from "../command-context.js";
import { columnsOf, createTextStyle, isInteractive } from "./terminal.js";

/** A trace as a tree for stdout, with a line break behind it: as wide as the terminal and in colours where there is one. */
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
