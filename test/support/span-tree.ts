import type { SpanRecord } from "../../src/trace/span-record.js";

/** Name and kind of each span, indented below its parent, with its links to other spans by their names. */
export function spanTree(spans: readonly SpanRecord[]): string {
  const byId = new Map(spans.map((span) => [span.spanId, span]));
  const lines = (parentSpanId: string, indent: string): string[] =>
    spans
      .filter((span) => (byId.has(span.parentSpanId) ? span.parentSpanId : "") === parentSpanId)
      .toSorted((one, other) => one.name.localeCompare(other.name))
      .flatMap((span) => {
        const outer = span.parentSpanId !== "" && !byId.has(span.parentSpanId) ? ` in ${span.parentSpanId}` : "";
        const links = span.links.map(({ spanId }) => ` → ${byId.get(spanId)?.name ?? spanId}`).join("");
        return [`${indent}${span.name} ${span.kind}${outer}${links}`, ...lines(span.spanId, `${indent}  `)];
      });
  return lines("", "").join("\n");
}
