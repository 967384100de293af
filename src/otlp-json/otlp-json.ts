import type { JsonObject } from "@bufbuild/protobuf";
import type { Value } from "@bufbuild/protobuf/wkt";
import type { Span } from "../gen/throughline/studio/v1/studio_pb.js";

/**
 * Convert spans to an OTLP export in JSON, for `POST /v1/traces` of any backend. Spans of one resource stand together, in order of their start.
 *
 * Ids are hexadecimal, 64-bit integers are strings, enums are numbers. A running span has no `endTimeUnixNano`. What the collector does not
 * store is absent: instrumentation scopes, flags, and the counts of dropped items.
 *
 * @see https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
 */
export function otlpJsonOf(spans: readonly Span[]): JsonObject {
  const resources = new Map<string, { readonly attributes: JsonObject[]; readonly spans: JsonObject[] }>();
  for (const span of [...spans].sort(byStart)) {
    const attributes = attributesOf(span.resource);
    // A collector of an older version returns the service only.
    if (attributes.length === 0 && span.service !== "") {
      attributes.push({ key: "service.name", value: { stringValue: span.service } });
    }
    const key = JSON.stringify(attributes);
    const resource = resources.get(key) ?? { attributes, spans: [] };
    resource.spans.push(spanOf(span));
    resources.set(key, resource);
  }
  return {
    resourceSpans: [...resources.values()].map((resource) => ({
      resource: { attributes: resource.attributes },
      scopeSpans: [{ spans: resource.spans }],
    })),
  };
}

function byStart(a: Span, b: Span): number {
  return a.startUnixNano < b.startUnixNano ? -1 : a.startUnixNano > b.startUnixNano ? 1 : 0;
}

/** Numbers of `opentelemetry.proto.trace.v1.Span.SpanKind`. */
const kinds: Readonly<Record<string, number>> = { INTERNAL: 1, SERVER: 2, CLIENT: 3, PRODUCER: 4, CONSUMER: 5 };

/** Numbers of `opentelemetry.proto.trace.v1.Status.StatusCode`. */
const statusCodes: Readonly<Record<string, number>> = { UNSET: 0, OK: 1, ERROR: 2 };

function spanOf(span: Span): JsonObject {
  return {
    traceId: span.traceId,
    spanId: span.spanId,
    ...(span.parentSpanId !== "" && { parentSpanId: span.parentSpanId }),
    ...(span.traceState !== "" && { traceState: span.traceState }),
    name: span.name,
    kind: kinds[span.kind] ?? 0,
    startTimeUnixNano: String(span.startUnixNano),
    ...(span.endUnixNano !== 0n && { endTimeUnixNano: String(span.endUnixNano) }),
    attributes: attributesOf(span.attributes),
    events: span.events.map(({ name, timeUnixNano, attributes }) => ({
      name,
      timeUnixNano: String(timeUnixNano),
      attributes: attributesOf(attributes),
    })),
    links: span.links.map(({ traceId, spanId, attributes }) => ({
      traceId,
      spanId,
      attributes: attributesOf(attributes),
    })),
    status: {
      code: statusCodes[span.status] ?? 0,
      ...(span.statusMessage !== "" && { message: span.statusMessage }),
    },
  };
}

function attributesOf(attributes: Readonly<Record<string, Value>>): JsonObject[] {
  return Object.entries(attributes)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => ({ key, value: anyValueOf(value) }));
}

function anyValueOf({ kind }: Value): JsonObject {
  switch (kind.case) {
    case "stringValue":
      return { stringValue: kind.value };
    case "boolValue":
      return { boolValue: kind.value };
    case "numberValue":
      // The stored number has no type. As in OpenTelemetry's SDK for JavaScript, a whole number is an integer.
      return Number.isSafeInteger(kind.value) ? { intValue: String(kind.value) } : { doubleValue: kind.value };
    case "listValue":
      return { arrayValue: { values: kind.value.values.map(anyValueOf) } };
    case "structValue":
      return { kvlistValue: { values: attributesOf(kind.value.fields) } };
    case "nullValue":
    case undefined:
      return {};
  }
}
