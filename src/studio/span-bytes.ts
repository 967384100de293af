import type { Attributes, AttributeValue } from "@opentelemetry/api";
import type { SpanRecord } from "../trace/span-record.js";

/** What an object or a map takes, whatever is in it: a round number, for an estimate. */
const objectBytes = 100;

/**
 * An estimate of the memory that a span takes, in bytes: two for each character, and something for each object. It counts what spans may
 * share, their resource, for each.
 */
export function spanBytes(span: SpanRecord): number {
  const { name, service, traceState, status, attributes, resource, events, links } = span;
  const texts = [name, service, traceState, status.message];
  return (
    5 * objectBytes +
    sum(texts.map(textBytes)) +
    attributesBytes(attributes) +
    attributesBytes(resource) +
    sum(events.map((event) => objectBytes + textBytes(event.name) + attributesBytes(event.attributes))) +
    sum(links.map((link) => 2 * objectBytes + attributesBytes(link.attributes)))
  );
}

function attributesBytes(attributes: Attributes): number {
  return sum(Object.entries(attributes).map(([key, value]) => textBytes(key) + valueBytes(value)));
}

function valueBytes(value: AttributeValue | null | undefined): number {
  if (Array.isArray(value)) {
    return objectBytes + sum(value.map(valueBytes));
  }
  return typeof value === "string" ? textBytes(value) : 8;
}

function textBytes(text: string): number {
  return 16 + 2 * text.length;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
