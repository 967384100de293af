import type { Attributes } from "@opentelemetry/api";
import * as z from "zod";
import type { SpanRecord } from "../../../src/trace/span-record.js";

const tagsSchema = z.array(z.object({ key: z.string(), value: z.union([z.string(), z.number(), z.boolean()]) }));

const kindSchema = z.enum(["internal", "server", "client", "producer", "consumer"]);

const traceSchema = z.object({
  data: z.array(
    z.object({
      spans: z.array(
        z.object({
          traceID: z.string(),
          spanID: z.string(),
          operationName: z.string(),
          references: z.array(z.object({ refType: z.string(), traceID: z.string(), spanID: z.string() })),
          startTime: z.number(),
          duration: z.number(),
          tags: tagsSchema,
          logs: z.array(z.object({ timestamp: z.number(), fields: tagsSchema })),
          processID: z.string(),
        }),
      ),
      processes: z.record(z.string(), z.object({ serviceName: z.string(), tags: tagsSchema })),
    }),
  ),
});

/** Jaeger's tags for OTLP fields. */
const fieldTags = new Set([
  "span.kind",
  "error",
  "otel.status_code",
  "otel.status_description",
  "otel.scope.name",
  "otel.scope.version",
  "w3c.tracestate",
]);

/** The spans in an answer of Jaeger's `/api/traces/{id}`. */
export function spansFromJaeger(answer: unknown): SpanRecord[] {
  return traceSchema.parse(answer).data.flatMap(({ spans, processes }) =>
    spans.map((span): SpanRecord => {
      const tags = attributesOf(span.tags);
      const inTrace = span.references.filter(({ traceID }) => traceID === span.traceID);
      const childOf = inTrace.find(({ refType }) => refType === "CHILD_OF");
      // Jaeger keeps one reference where a span also links to its parent, and it is the link's. Its page draws it as the parent.
      const parent = childOf ?? inTrace[0];
      const process = processes[span.processID];
      return {
        traceId: span.traceID,
        spanId: span.spanID,
        parentSpanId: parent?.spanID ?? "",
        traceState: String(tags["w3c.tracestate"] ?? ""),
        name: span.operationName,
        kind: kindNames[kindSchema.parse(tags["span.kind"] ?? "internal")],
        service: process?.serviceName ?? "",
        startUnixNano: BigInt(span.startTime) * 1000n,
        endUnixNano: BigInt(span.startTime + span.duration) * 1000n,
        attributes: withoutFieldTags(tags),
        events: span.logs.map(({ timestamp, fields }) => {
          const { event, ...attributes } = attributesOf(fields);
          return { name: String(event), timeUnixNano: BigInt(timestamp) * 1000n, attributes };
        }),
        links: span.references
          .filter((reference) => reference !== childOf)
          .map(({ traceID, spanID }) => ({ traceId: traceID, spanId: spanID, attributes: {} })),
        status: {
          code: z.enum(["UNSET", "OK", "ERROR"]).parse(tags["otel.status_code"] ?? "UNSET"),
          message: String(tags["otel.status_description"] ?? ""),
        },
        resource: attributesOf(process?.tags ?? []),
      };
    }),
  );
}

const kindNames = {
  internal: "INTERNAL",
  server: "SERVER",
  client: "CLIENT",
  producer: "PRODUCER",
  consumer: "CONSUMER",
} as const;

function attributesOf(tags: z.infer<typeof tagsSchema>): Attributes {
  return Object.fromEntries(tags.map(({ key, value }) => [key, value]));
}

function withoutFieldTags(tags: Attributes): Attributes {
  return Object.fromEntries(Object.entries(tags).filter(([key]) => !fieldTags.has(key)));
}
