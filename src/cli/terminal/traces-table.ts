import type { TraceSummary } from "../../gen/throughline/studio/v1/studio_pb.js";
import { formatDuration, printable } from "../../studio/trace-text.js";
import { durationWords } from "./duration-words.js";
import type { TextStyle } from "./terminal.js";

const heads = ["TRACE", "AGE", "DURATION", "SPANS", "ERRORS", "FIRST SPAN"];

/** Traces as a table for a terminal, one line each; words where there are none. */
export function renderTraces(traces: readonly TraceSummary[], style: TextStyle): string {
  if (traces.length === 0) {
    return "no traces yet\n";
  }
  const rows = [heads, ...traces.map(cellsOf)];
  const widths = heads.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row, i) => {
      const cells = row.map((cell, column) => cell.padEnd(widths[column] ?? 0));
      const line = cells.join("  ").trimEnd();
      return `${i === 0 ? style("dim", line) : traces[i - 1]?.errorCount === 0 ? line : style("red", line)}\n`;
    })
    .join("");
}

function cellsOf(trace: TraceSummary): string[] {
  const { traceId, name, service, startUnixNano, durationNano, spanCount, errorCount, running } = trace;
  const age = Math.max(0, Date.now() - Number(startUnixNano / 1_000_000n));
  return [
    printable(traceId),
    durationWords(age),
    running ? "running" : formatDuration(durationNano),
    String(spanCount),
    String(errorCount),
    name === service ? printable(name) : `${printable(name)} (${printable(service)})`,
  ];
}
