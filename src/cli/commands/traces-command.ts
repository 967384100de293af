import type { TraceSummary } from "../../gen/throughline/studio/v1/studio_pb.js";
import type { CommandContext } from "../command-context.js";
import { exitCodes } from "../exit-codes.js";
import { collectorFailure, connectStudio, studioWaitMs } from "../request/studio-client.js";
import { serverAccessOf } from "../service/server-access.js";
import type { SettingsOf } from "../settings/setting.js";
import type { tracesSettings } from "../settings/trace-settings.js";
import { jsonLine } from "../terminal/json-line.js";
import { createTextStyle } from "../terminal/terminal.js";
import { renderTraces } from "../terminal/traces-table.js";

/** Lists the newest traces of a collector, newest first. */
export async function runTraces(settings: SettingsOf<typeof tracesSettings>, context: CommandContext): Promise<number> {
  const { collector, limit, json } = settings;
  const { stdout, environment, interrupt } = context;
  const { studio } = connectStudio(collector, serverAccessOf(settings));
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
