import type { Value } from "@bufbuild/protobuf/wkt";
import type { Span } from "../../gen/throughline/studio/v1/studio_pb.js";

/** An attribute's value as a person reads it: a text as it is, a list with commas between. */
export function valueText({ kind }: Value): string {
  switch (kind.case) {
    case "stringValue":
      return kind.value;
    case "numberValue":
    case "boolValue":
      return String(kind.value);
    case "listValue":
      return kind.value.values.map(valueText).join(", ");
    case "structValue":
      return Object.entries(kind.value.fields)
        .map(([name, value]) => `${name}: ${valueText(value)}`)
        .join(", ");
    case "nullValue":
    case undefined:
      return "";
  }
}

/** Attributes in the order of their names, as text. */
export function attributeRows(attributes: Readonly<Record<string, Value>>): readonly (readonly [string, string])[] {
  return Object.entries(attributes)
    .map(([name, value]) => [name, valueText(value)] as const)
    .sort(([a], [b]) => a.localeCompare(b));
}

/** Whether the span ended in an error. */
export function isError(span: Span): boolean {
  return span.status === "ERROR";
}
