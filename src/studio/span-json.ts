import { z } from "zod";
import type { SpanRecord } from "../trace/span-record.js";

const nanos = z
  .string()
  .regex(/^\d{1,20}$/)
  .transform(BigInt);
const attributes = z.record(
  z.string(),
  z.union([
    z.string(),
    z.number(),
    z.boolean(),
    z.array(z.string().nullish()),
    z.array(z.number().nullish()),
    z.array(z.boolean().nullish()),
  ]),
);

/** A span as JSON has it: all of {@link SpanRecord}, times as decimal strings, because JSON's numbers cannot hold nanoseconds. */
const spanJson = z.object({
  traceId: z.string(),
  spanId: z.string(),
  parentSpanId: z.string(),
  traceState: z.string(),
  name: z.string(),
  kind: z.enum(["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]),
  service: z.string(),
  startUnixNano: nanos,
  endUnixNano: nanos,
  attributes,
  events: z.array(z.object({ name: z.string(), timeUnixNano: nanos, attributes })),
  links: z.array(z.object({ traceId: z.string(), spanId: z.string(), attributes })),
  status: z.object({ code: z.enum(["UNSET", "OK", "ERROR"]), message: z.string() }),
  resource: attributes,
});

const spansJson = z.object({ spans: z.array(spanJson) });

/** Writes spans as `{"spans": […]}`. */
export function spansToJson(spans: readonly SpanRecord[]): string {
  return JSON.stringify({ spans }, (_key, value: unknown) => (typeof value === "bigint" ? String(value) : value));
}

/**
 * Reads what {@link spansToJson} wrote.
 *
 * @throws Error when the text is anything else.
 */
export function spansFromJson(text: string): readonly SpanRecord[] {
  return spansJson.parse(JSON.parse(text)).spans;
}
