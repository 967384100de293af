import type { MessageInitShape } from "@bufbuild/protobuf";
import type { TraceSummarySchema } from "../gen/throughline/studio/v1/studio_pb.js";
import type { SpanRecord } from "../trace/span-record.js";

/** What of a trace is there: at least one span. */
export interface TraceParts {
  readonly ended: readonly SpanRecord[];
  readonly running: readonly SpanRecord[];
  /** Nanoseconds since 1970. */
  readonly nowUnixNano: bigint;
}

/** A trace in a line; undefined where no span of it is there. */
export function summarizeTrace({
  ended,
  running,
  nowUnixNano,
}: TraceParts): MessageInitShape<typeof TraceSummarySchema> | undefined {
  const spans = [...ended, ...running].toSorted((a, b) => Number(a.startUnixNano - b.startUnixNano));
  const [oldest] = spans;
  if (oldest === undefined) {
    return undefined;
  }
  const first = spans.find(({ parentSpanId }) => parentSpanId === "") ?? oldest;
  const ends = [...ended.map(({ endUnixNano }) => endUnixNano), ...(running.length > 0 ? [nowUnixNano] : [])];
  const end = ends.reduce((latest, each) => (each > latest ? each : latest), oldest.startUnixNano);
  return {
    traceId: first.traceId,
    name: first.name,
    service: first.service,
    startUnixNano: oldest.startUnixNano,
    durationNano: end - oldest.startUnixNano,
    spanCount: spans.length,
    errorCount: spans.filter(({ status }) => status.code === "ERROR").length,
    running: running.length > 0,
  };
}
