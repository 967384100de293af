import { type JsonValue, toJson } from "@bufbuild/protobuf";
import { type Value, ValueSchema } from "@bufbuild/protobuf/wkt";
import type { Attributes, AttributeValue } from "@opentelemetry/api";
import type { Span } from "../../gen/throughline/studio/v1/studio_pb.js";
import type { SpanKindName, SpanRecord } from "../../trace/span-record.js";
import { missingSpans } from "./contract-spans.js";
import { collectorFailure, type StudioSource } from "./studio-client.js";

/** Which trace, and how long to wait for all of it. */
export interface TraceQuery extends StudioSource {
  readonly traceId: string;
  /** Milliseconds without news of a trace after which it counts as whole; 0 takes what is there now. */
  readonly idleMs: number;
  /** Milliseconds after which what is there is taken. */
  readonly waitMs: number;
  readonly interrupt: AbortSignal;
}

/**
 * Asks for the spans of a trace: at once those of a trace that is whole, else as long as it may take. None: the trace is not known.
 *
 * @throws CommandError when there is no answer, or the reason of `interrupt`.
 */
export async function fetchTrace(query: TraceQuery): Promise<SpanRecord[]> {
  const { server, studio, traceId, idleMs, waitMs, interrupt } = query;
  const spans = new Map<string, SpanRecord>();
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), waitMs);
  try {
    const signal = AbortSignal.any([interrupt, over.signal]);
    for await (const response of studio.watchTrace({ traceId, idleMs }, { signal })) {
      for (const span of response.spans) {
        spans.set(span.spanId, spanRecordOf(span));
      }
      if (idleMs > 0 && missingSpans([...spans.values()]).length === 0) {
        break;
      }
    }
  } catch (error) {
    interrupt.throwIfAborted();
    if (!over.signal.aborted) {
      throw collectorFailure(server, error);
    }
  } finally {
    clearTimeout(timer);
    // Ends the call where it was left.
    over.abort();
  }
  return [...spans.values()];
}

/** A span as the studio tells of it, in the form that trees are made of. It ends at 0 while it runs. */
export function spanRecordOf(span: Span): SpanRecord {
  const { traceId, spanId, parentSpanId, name, service, startUnixNano, endUnixNano, statusMessage } = span;
  return {
    traceId,
    spanId,
    parentSpanId,
    traceState: "",
    name,
    kind: kinds.find((kind) => kind === span.kind) ?? "INTERNAL",
    service,
    startUnixNano,
    endUnixNano,
    attributes: attributesOf(span.attributes),
    events: span.events.map((event) => ({
      name: event.name,
      timeUnixNano: event.timeUnixNano,
      attributes: attributesOf(event.attributes),
    })),
    links: [],
    status: { code: statuses.find((status) => status === span.status) ?? "UNSET", message: statusMessage },
    resource: { "service.name": service },
  };
}

const kinds = ["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"] as const satisfies readonly SpanKindName[];
const statuses = ["UNSET", "OK", "ERROR"] as const;

function attributesOf(values: Readonly<Record<string, Value>>): Attributes {
  return Object.fromEntries(
    Object.entries(values).map(([key, value]) => [key, attributeValueOf(toJson(ValueSchema, value))]),
  );
}

/** Attributes are scalars and arrays of one kind of scalar; what a Value holds beyond that becomes JSON text. */
function attributeValueOf(value: JsonValue): AttributeValue {
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") {
    return value;
  }
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
  return value === null ? "" : JSON.stringify(value);
}
