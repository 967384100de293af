import type { Attributes, AttributeValue } from "@opentelemetry/api";
import type { ExportTraceServiceRequest } from "../gen/opentelemetry/proto/collector/trace/v1/trace_service_pb.js";
import type { AnyValue, KeyValue } from "../gen/opentelemetry/proto/common/v1/common_pb.js";
import { type Span, Span_SpanKind, Status_StatusCode } from "../gen/opentelemetry/proto/trace/v1/trace_pb.js";
import type { SpanKindName, SpanRecord } from "../trace/span-record.js";
import { clipText } from "./trace-text.js";

/** What an export held. */
export interface OtlpSpans {
  readonly spans: SpanRecord[];
  /** How many spans had no valid ids and were left out. */
  readonly rejected: number;
}

/** Most characters of a name, a key or a status message. */
const maxNameLength = 1024;

/** Most characters of an attribute that is text, or of one text in a list. Stack traces have some thousand. */
const maxTextLength = 16_384;

/** Most attributes, events and links of a span, attributes of an event or a link, and items of a list: OpenTelemetry's own default. */
const maxCount = 128;

/** Turns an OTLP export into plain spans. What is longer than a collector can use is cut. */
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
    traceState: clipText(span.traceState, maxNameLength),
    name: clipText(span.name, maxNameLength),
    kind: kindNames.get(span.kind) ?? "INTERNAL",
    service: clipText(String(resource["service.name"] ?? ""), maxNameLength),
    startUnixNano: span.startTimeUnixNano,
    endUnixNano: span.endTimeUnixNano,
    attributes: toAttributes(span.attributes),
    events: span.events.slice(0, maxCount).map(({ name, timeUnixNano, attributes }) => ({
      name: clipText(name, maxNameLength),
      timeUnixNano,
      attributes: toAttributes(attributes),
    })),
    links: span.links.slice(0, maxCount).map(({ traceId, spanId, attributes }) => ({
      traceId: toHex(traceId),
      spanId: toHex(spanId),
      attributes: toAttributes(attributes),
    })),
    status: {
      code: statusNames.get(span.status?.code) ?? "UNSET",
      message: clipText(span.status?.message ?? "", maxNameLength),
    },
    resource,
  };
}

/** By the specification, an unspecified kind counts as INTERNAL. */
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
  return Object.fromEntries(
    pairs
      .slice(0, maxCount)
      .map(({ key, value }) => [clipText(key, maxNameLength), clipValue(toAttributeValue(plain(value)))]),
  );
}

function clipValue(value: AttributeValue): AttributeValue {
  if (Array.isArray(value)) {
    const items = value.slice(0, maxCount);
    return items.every((item) => typeof item === "string") ? items.map((item) => clipText(item, maxTextLength)) : items;
  }
  return typeof value === "string" ? clipText(value, maxTextLength) : value;
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
