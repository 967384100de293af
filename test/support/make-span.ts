import type { SpanRecord } from "../../src/trace/span-record.js";

/** Nanoseconds since 1970 at which made spans begin to count. */
const EPOCH = 1_760_000_000_000_000_000n;

/** A span for tests: what is not said is plain. Times are milliseconds since a fixed moment. */
export function makeSpan(
  said: Partial<SpanRecord> & { readonly startMs?: number; readonly endMs?: number } = {},
): SpanRecord {
  const { startMs = 0, endMs = startMs, ...rest } = said;
  const name = rest.name ?? "work";
  return {
    traceId: "a".repeat(32),
    spanId: Buffer.from(name.padEnd(8, "_").slice(0, 8)).toString("hex"),
    parentSpanId: "",
    traceState: "",
    name,
    kind: "INTERNAL",
    service: "image-pipeline",
    startUnixNano: EPOCH + BigInt(Math.round(startMs * 1e6)),
    endUnixNano: EPOCH + BigInt(Math.round(endMs * 1e6)),
    attributes: {},
    events: [],
    links: [],
    status: { code: "UNSET", message: "" },
    resource: {},
    ...rest,
  };
}
