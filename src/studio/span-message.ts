import { fromJson, type MessageInitShape } from "@bufbuild/protobuf";
import { type Value, ValueSchema } from "@bufbuild/protobuf/wkt";
import type { Attributes, AttributeValue } from "@opentelemetry/api";
import type { SpanSchema } from "../gen/throughline/studio/v1/studio_pb.js";
import type { SpanRecord } from "../trace/span-record.js";

/** A span as the studio's contract has it; its events are put in the order of time. */
export function toSpanMessage(span: SpanRecord): MessageInitShape<typeof SpanSchema> {
  const { traceId, spanId, parentSpanId, name, service, kind, startUnixNano, endUnixNano, status } = span;
  return {
    traceId,
    spanId,
    parentSpanId,
    name,
    service,
    kind,
    startUnixNano,
    endUnixNano,
    attributes: toValues(span.attributes),
    events: span.events
      .toSorted((a, b) => (a.timeUnixNano < b.timeUnixNano ? -1 : a.timeUnixNano > b.timeUnixNano ? 1 : 0))
      .map((event) => ({ ...event, attributes: toValues(event.attributes) })),
    status: status.code,
    statusMessage: status.message,
  };
}

function toValues(attributes: Attributes): { [key: string]: Value } {
  return Object.fromEntries(Object.entries(attributes).map(([key, value]) => [key, toValue(value)]));
}

function toValue(value: AttributeValue | undefined): Value {
  return fromJson(ValueSchema, Array.isArray(value) ? value.map(plain) : plain(value));
}

/** JSON, and so a Value in it, knows numbers that are finite only. */
function plain(
  value: string | number | boolean | readonly unknown[] | null | undefined,
): string | number | boolean | null {
  if (typeof value === "number" && !Number.isFinite(value)) {
    return String(value);
  }
  return value === undefined || typeof value === "object" ? null : value;
}
