import type { TraceSummary } from "../../gen/throughline/studio/v1/studio_pb.js";
import { otlpJsonOf } from "../../otlp-json/otlp-json.js";
import { formatDuration, printable } from "../../studio/trace-text.js";
import { traceToJson } from "../../studio/trace-tree.js";
import type { CommandContext } from "../command.js";
import { CliError, exitCodes, usageError } from "../errors.js";
import type { traceOptions, tracesOptions } from "../options/command-options.js";
import type { OptionValues } from "../options/option.js";
import { accessOf } from "../services/security.js";
import { renderTable } from "../terminal/table.js";
import { createTextStyle, formatWait, jsonLine, renderTrace, type TextStyle } from "../terminal/terminal.js";
import { collectorFailure, connectStudio, fetchSpans, spanRecordOf, studioWaitMs } from "./studio-client.js";

type TraceSettings = OptionValues<typeof traceOptions>;
type TraceFormat = NonNullable<TraceSettings["format"]>;

/** Prints the stored spans of a trace. Exit code 1: the collector has none; 2: not a trace id. */
export async function runTrace(settings: TraceSettings, context: CommandContext, id: string): Promise<number> {
  const { collector, verbose } = settings;
  const { stdout, interrupt } = context;
  const format = formatOf(settings);
  const traceId = id.toLowerCase();
  if (!/^[0-9a-f]{32}$/.test(traceId)) {
    throw usageError(`a trace id is 32 hexadecimal digits, got "${printable(id)}"`);
  }
  const source = connectStudio(collector, accessOf(settings));
  const spans = await fetchSpans({ ...source, traceId, idleMs: 0, waitMs: studioWaitMs, interrupt });
  if (spans.length === 0) {
    const advice =
      "it keeps the newest traces in memory, and throughline traces lists them; a span arrives some seconds after its end";
    throw new CliError(`${collector} has no trace ${traceId} (${advice})`);
  }
  switch (format) {
    case "otlp":
      stdout.write(jsonLine(otlpJsonOf(spans)));
      break;
    case "json":
      stdout.write(jsonLine({ traceId, ...traceToJson(spans.map(spanRecordOf)) }));
      break;
    case "tree":
      stdout.write(renderTrace(spans.map(spanRecordOf), context, { details: verbose }));
      break;
  }
  return exitCodes.done;
}

function formatOf({ format, json }: Pick<TraceSettings, "format" | "json">): TraceFormat {
  if (json && format !== undefined && format !== "json") {
    throw usageError(`--json excludes --format ${format}`);
  }
  return json ? "json" : (format ?? "tree");
}

/** Lists the newest traces of a collector, newest first. */
export async function runTraces(
  settings: OptionValues<typeof tracesOptions>,
  context: CommandContext,
): Promise<number> {
  const { collector, limit, json } = settings;
  const { stdout, environment, interrupt } = context;
  const { studio } = connectStudio(collector, accessOf(settings));
  const { traces } = await studio
    .listTraces({ limit }, { signal: interrupt, timeoutMs: studioWaitMs })
    .catch((error: unknown) => {
      interrupt.throwIfAborted();
      throw collectorFailure(collector, error);
    });
  stdout.write(
    json ? jsonLine({ traces: traces.map(summaryJson) }) : renderTraces(traces, createTextStyle(stdout, environment)),
  );
  return exitCodes.done;
}

function summaryJson(trace: TraceSummary) {
  const { traceId, name, service, startUnixNano, durationNano, spanCount, errorCount, running } = trace;
  const startedAt = new Date(Number(startUnixNano / 1_000_000n)).toISOString();
  return { traceId, name, service, startedAt, durationMs: Number(durationNano) / 1e6, spanCount, errorCount, running };
}

const heads = ["TRACE", "AGE", "DURATION", "SPANS", "ERRORS", "FIRST SPAN"];

/** Renders traces as a table for a terminal, one line each; a message if there are none. */
export function renderTraces(traces: readonly TraceSummary[], style: TextStyle): string {
  if (traces.length === 0) {
    return "no traces yet\n";
  }
  const lineStyle = (line: string, row: number) => (traces[row]?.errorCount === 0 ? line : style("red", line));
  return renderTable(heads, traces.map(cellsOf), lineStyle, style);
}

function cellsOf(trace: TraceSummary): string[] {
  const { traceId, name, service, startUnixNano, durationNano, spanCount, errorCount, running } = trace;
  const age = Math.max(0, Date.now() - Number(startUnixNano / 1_000_000n));
  return [
    printable(traceId),
    formatWait(age),
    running ? "running" : formatDuration(durationNano),
    String(spanCount),
    String(errorCount),
    name === service ? printable(name) : `${printable(name)} (${printable(service)})`,
  ];
}
