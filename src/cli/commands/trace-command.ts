import { printable } from "../../studio/trace-text.js";
import { traceToJson } from "../../studio/trace-tree.js";
import type { CommandContext } from "../command-context.js";
import { CommandError, usageError } from "../command-error.js";
import { exitCodes } from "../exit-codes.js";
import { fetchTrace } from "../request/fetch-trace.js";
import { connectStudio, studioWaitMs } from "../request/studio-client.js";
import { serverAccessOf } from "../service/server-access.js";
import type { SettingsOf } from "../settings/setting.js";
import type { traceSettings } from "../settings/trace-settings.js";
import { jsonLine } from "../terminal/json-line.js";
import { renderTrace } from "../terminal/trace-view.js";

/** Prints what a collector has of a trace now. Exit code 1: it has nothing of it; 2: that is no trace id. */
export async function runTrace(
  settings: SettingsOf<typeof traceSettings>,
  context: CommandContext,
  id: string,
): Promise<number> {
  const { collector, verbose, json } = settings;
  const { stdout, interrupt } = context;
  const traceId = id.toLowerCase();
  if (!/^[0-9a-f]{32}$/.test(traceId)) {
    throw usageError(`a trace id is 32 hexadecimal digits, got "${printable(id)}"`);
  }
  const source = connectStudio(collector, serverAccessOf(settings));
  const spans = await fetchTrace({ ...source, traceId, idleMs: 0, waitMs: studioWaitMs, interrupt });
  if (spans.length === 0) {
    const advice =
      "it keeps the newest in memory, and throughline traces lists them; a span comes some seconds after it ended";
    throw new CommandError(`${collector} has no trace ${traceId} (${advice})`);
  }
  stdout.write(json ? jsonLine({ traceId, ...traceToJson(spans) }) : renderTrace(spans, context, { details: verbose }));
  return exitCodes.done;
}
