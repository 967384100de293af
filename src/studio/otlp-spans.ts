import type { Attributes, AttributeValue } from "@opentelemetry/api";
import type { ExportTraceServiceRequest } from "../gen/opentelemetry/proto/collector/trace/v1/trace_service_pb.js";
import type { AnyValue, KeyValue } from "../gen/opentelemetry/proto/common/v1/common_pb.js";
import { type Span, Span_SpanKind, Status_StatusCode } from "../gen/opentelemetry/proto/trace/v1/trace_pb.js";
import type { SpanKindName, SpanRecord } from "../trace/span-record.js";

/** What an export held. */
export interface OtlpSpans {
  readonly spans: SpanRecord[];
  /** How many spans had no valid ids and were left out. */
  readonly rejected: number;
}

/** Turns an OTLP export into plain spans. */
export function spansFromOtlp(request: ExportTraceServiceRequest): OtlpSpans {
  const spans: SpanRecord[] = [];
  let rejected = 0;
  for (const { resource, scopeSpans } of request.resourceSpans) {
    const attributes = toAttributes(resource?.attributes ?? []);
    for (const span of scopeSpans.flatMap((scope) => scope.spans)) {
      if (isId(span.traceId, 16) && isId(span.spanId, 8)) {
        spans.push(toRecord(span, attributes));
      } else {
        rejected++;
      }
    }
  }
  return { spans, rejected };
}

/** Ids have a fixed length and are not all zeros. @see https://www.w3.org/TR/trace-context/#trace-id */
function isId(bytes: Uint8Array, length: number): boolean {
  return bytes.length === length && bytes.some((byte) => byte !== 0);
}

function toRecord(span: Span, resource: Attributes): SpanRecord {
  return {
    traceId: toHex(span.traceId),
    spanId: toHex(span.spanId),
    parentSpanId: isId(span.parentSpanId, 8) ? toHex(span.parentSpanId) : "",
    traceState: span.traceState,
    name: span.name,
    kind: kindNames.get(span.kind) ?? "INTERNAL",
    service: String(resource["service.name"] ?? ""),
    startUnixNano: span.startTimeUnixNano,
    endUnixNano: span.endTimeUnixNano,
    attributes: toAttributes(span.attributes),
    events: span.events.map(({ name, timeUnixNano, attributes }) => ({
      name,
      timeUnixNano,
      attributes: toAttributes(attributes),
    })),
    links: span.links.map(({ traceId, spanId, attributes }) => ({
      traceId: toHex(traceId),
      spanId: toHex(spanId),
      attributes: toAttributes(attributes),
    })),
    status: { code: statusNames.get(span.status?.code) ?? "UNSET", message: span.status?.message ?? "" },
    resource,
  };
}

/** The specification has a kind that is not said count as INTERNAL. */
const kindNames = new Map<Span_SpanKind, SpanKindName>([
  [Span_SpanKind.SERVER, "SERVER"],
  [Span_SpanKind.CLIENT, "CLIENT"],
  [Span_SpanKind.PRODUCER, "PRODUCER"],
  [Span_SpanKind.CONSUMER, "CONSUMER"],
]);

const statusNames = new Map<Status_StatusCode | undefined, SpanRecord["status"]["code"]>([
  [Status_StatusCode.OK, "OK"],
  [Status_StatusCode.ERROR, "ERROR"],
]);

function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function toAttributes(pairs: readonly KeyValue[]): Attributes {
  return Object.fromEntries(pairs.map(({ key, value }) => [key, toAttributeValue(plain(value))]));
}

/** A value as JSON holds it: integers that a number cannot hold and bytes become text. */
type Plain = string | number | boolean | null | Plain[] | { [key: string]: Plain };

function plain(value: AnyValue | undefined): Plain {
  const variant = value?.value;
  switch (variant?.case) {
    case "stringValue":
    case "boolValue":
    case "doubleValue":
      return variant.value;
    case "intValue": {
      const number = Number(variant.value);
      return Number.isSafeInteger(number) ? number : String(variant.value);
    }
    case "bytesValue":
      return Buffer.from(variant.value).toString("base64");
    case "arrayValue":
      return variant.value.values.map(plain);
    case "kvlistValue":
      return Object.fromEntries(variant.value.values.map(({ key, value: inner }) => [key, plain(inner)]));
    default:
      return null;
  }
}

/** Attributes are scalars and arrays of one kind of scalar; what OTLP allows beyond that becomes JSON text. */
function toAttributeValue(value: Plain): AttributeValue {
  if (Array.isArray(value)) {
    if (value.every((item) => typeof item === "string")) {
      return value;
    }
    if (value.every((item) => typeof item === "number")) {
      return value;
    }
    if (value.every((item) => typeof item === "boolean")) {
      return value;
    }
  }
  if (value === null) {
    return "";
  }
  return typeof value === "object" ? JSON.stringify(value) : value;
}
