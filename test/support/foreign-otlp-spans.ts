import type { Attributes, AttributeValue } from "@opentelemetry/api";
import * as z from "zod";
import type { SpanRecord } from "../../src/trace/span-record.js";

/** Spans of an `ExportTraceServiceRequest` as protobufjs decodes it, with longs and enums as strings. */
export function spansFromForeignRequest(request: unknown): SpanRecord[] {
  return requestSchema.parse(request).resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const resourceAttributes = toAttributes(resource?.attributes ?? []);
    return scopeSpans.flatMap(({ spans }) =>
      spans.map(
        (span): SpanRecord => ({
          traceId: span.traceId,
          spanId: span.spanId,
          parentSpanId: span.parentSpanId,
          traceState: span.traceState,
          name: span.name,
          kind: span.kind,
          service: String(resourceAttributes["service.name"] ?? ""),
          startUnixNano: span.startTimeUnixNano,
          endUnixNano: span.endTimeUnixNano,
          attributes: toAttributes(span.attributes),
          events: span.events.map((event) => ({
            name: event.name,
            timeUnixNano: event.timeUnixNano,
            attributes: toAttributes(event.attributes),
          })),
          links: span.links.map((link) => ({ ...link, attributes: toAttributes(link.attributes) })),
          status: { code: span.status?.code ?? "UNSET", message: span.status?.message ?? "" },
          resource: resourceAttributes,
        }),
      ),
    );
  });
}

const hex = z.instanceof(Buffer).transform((bytes) => bytes.toString("hex"));
const nanos = z.string().transform((digits) => BigInt(digits));

const scalarSchema = z.union([
  z.object({ value: z.literal("stringValue"), stringValue: z.string() }).transform((v) => v.stringValue),
  z.object({ value: z.literal("boolValue"), boolValue: z.boolean() }).transform((v) => v.boolValue),
  z.object({ value: z.literal("intValue"), intValue: z.string() }).transform((v) => Number(v.intValue)),
  z.object({ value: z.literal("doubleValue"), doubleValue: z.number() }).transform((v) => v.doubleValue),
]);

const valueSchema = z.union([
  scalarSchema,
  z
    .object({ value: z.literal("arrayValue"), arrayValue: z.object({ values: z.array(scalarSchema) }) })
    .transform((v) => v.arrayValue.values.map(String)),
]);

/** Attributes, as the longs, the enums and the oneofs of protobufjs leave them. */
export const attributesSchema = z.array(z.object({ key: z.string(), value: valueSchema }));

const requestSchema = z.object({
  resourceSpans: z.array(
    z.object({
      resource: z.object({ attributes: attributesSchema }).nullable(),
      scopeSpans: z.array(
        z.object({
          spans: z.array(
            z.object({
              traceId: hex,
              spanId: hex,
              parentSpanId: hex,
              traceState: z.string(),
              name: z.string(),
              kind: z
                .enum([
                  "SPAN_KIND_INTERNAL",
                  "SPAN_KIND_SERVER",
                  "SPAN_KIND_CLIENT",
                  "SPAN_KIND_PRODUCER",
                  "SPAN_KIND_CONSUMER",
                ])
                .transform((kind) => kindNames[kind]),
              startTimeUnixNano: nanos,
              endTimeUnixNano: nanos,
              attributes: attributesSchema,
              events: z.array(z.object({ name: z.string(), timeUnixNano: nanos, attributes: attributesSchema })),
              links: z.array(z.object({ traceId: hex, spanId: hex, attributes: attributesSchema })),
              status: z
                .object({
                  code: z
                    .enum(["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"])
                    .transform((code) => statusNames[code]),
                  message: z.string(),
                })
                .nullable(),
            }),
          ),
        }),
      ),
    }),
  ),
});

const kindNames = {
  SPAN_KIND_INTERNAL: "INTERNAL",
  SPAN_KIND_SERVER: "SERVER",
  SPAN_KIND_CLIENT: "CLIENT",
  SPAN_KIND_PRODUCER: "PRODUCER",
  SPAN_KIND_CONSUMER: "CONSUMER",
} as const;

const statusNames = { STATUS_CODE_UNSET: "UNSET", STATUS_CODE_OK: "OK", STATUS_CODE_ERROR: "ERROR" } as const;

function toAttributes(attributes: readonly { key: string; value: AttributeValue }[]): Attributes {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, value]));
}
