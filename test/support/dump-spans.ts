import type { Attributes } from "@opentelemetry/api";
import type { SpanRecord } from "../../src/trace/span-record.js";

export interface DumpOptions {
  /** Attribute keys whose values change from run to run; they are shown as `*`. */
  readonly mask?: readonly string[];
}

/**
 * Writes spans as text, one tree after another, so that a test compares a whole trace at once. Everything stands there that is
 * the same in each run: name, kind, service, attributes sorted by key, events, links and status. Ids and times do not; what a
 * span's parent is shows in its indentation. Siblings are sorted by name, and only then by start: spans start on whole
 * milliseconds, so that quick siblings have no order of their own.
 *
 *     image-pipeline SERVER image-pipeline
 *       preprocess-prompt INTERNAL image-pipeline
 *         prompt.length=11
 *
 * A parent that is not among the spans is written as `(remote parent)` above its children.
 */
export function dumpSpans(spans: readonly SpanRecord[], options: DumpOptions = {}): string {
  const ids = new Set(spans.map(keyOf));
  const mask = new Set(options.mask ?? []);
  const lines: string[] = [];

  const write = (span: SpanRecord, depth: number) => {
    const indent = "  ".repeat(depth);
    const status = span.status.code === "UNSET" ? "" : ` ${span.status.code}`;
    const message = span.status.message === "" ? "" : ` "${span.status.message}"`;
    lines.push(`${indent}${span.name} ${span.kind} ${span.service}${status}${message}`);
    if (span.traceState !== "") {
      lines.push(`${indent}    tracestate ${span.traceState}`);
    }
    for (const attribute of dumpAttributes(span.attributes, mask)) {
      lines.push(`${indent}    ${attribute}`);
    }
    for (const event of span.events) {
      lines.push([`${indent}    event ${event.name}`, ...dumpAttributes(event.attributes, mask)].join(" "));
    }
    for (const link of span.links) {
      lines.push(
        [`${indent}    link ${link.traceId}-${link.spanId}`, ...dumpAttributes(link.attributes, mask)].join(" "),
      );
    }
    const children = spans.filter((other) => other.parentSpanId === span.spanId && other.traceId === span.traceId);
    for (const child of inOrder(children)) {
      write(child, depth + 1);
    }
  };

  for (const span of inOrder(spans)) {
    if (span.parentSpanId === "") {
      write(span, 0);
    } else if (!ids.has(`${span.traceId}-${span.parentSpanId}`)) {
      lines.push("(remote parent)");
      write(span, 1);
    }
  }
  return lines.join("\n");
}

/** Lines of a template literal without their common indentation, for expected dumps inside a test. */
export function text(strings: TemplateStringsArray, ...values: unknown[]): string {
  const lines = String.raw({ raw: strings.raw }, ...values).split("\n");
  const used = lines.filter((line) => line.trim() !== "");
  const margin = Math.min(...used.map((line) => line.length - line.trimStart().length));
  return used.map((line) => line.slice(margin).trimEnd()).join("\n");
}

function keyOf(span: SpanRecord): string {
  return `${span.traceId}-${span.spanId}`;
}

function inOrder(spans: readonly SpanRecord[]): SpanRecord[] {
  return spans.toSorted((a, b) => compare(a.name, b.name) || compare(a.startUnixNano, b.startUnixNano));
}

function compare<T extends string | bigint>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function dumpAttributes(attributes: Attributes, mask: ReadonlySet<string>): string[] {
  return Object.keys(attributes)
    .sort()
    .map((key) => `${key}=${mask.has(key) ? "*" : JSON.stringify(attributes[key])}`);
}
