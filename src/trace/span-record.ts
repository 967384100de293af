import type { Attributes, SpanKind } from "@opentelemetry/api";

/** Names of span kinds, as in the contract and in OTLP. */
export type SpanKindName = keyof typeof SpanKind;

/** An event of a span. */
export interface SpanEventRecord {
  readonly name: string;
  readonly timeUnixNano: bigint;
  readonly attributes: Attributes;
}

/** A link from a span to another span that is not its parent. */
export interface SpanLinkRecord {
  readonly traceId: string;
  readonly spanId: string;
  readonly attributes: Attributes;
}

/**
 * A finished span as plain data, from an SDK or an OTLP message.
 *
 * Ids are lower-case hexadecimal; times are nanoseconds since 1970.
 */
export interface SpanRecord {
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for a root. */
  readonly parentSpanId: string;
  /** `tracestate` in its header format; empty if there is none. */
  readonly traceState: string;
  readonly name: string;
  readonly kind: SpanKindName;
  /** The resource's `service.name`; empty if it has none. */
  readonly service: string;
  readonly startUnixNano: bigint;
  readonly endUnixNano: bigint;
  readonly attributes: Attributes;
  readonly events: readonly SpanEventRecord[];
  readonly links: readonly SpanLinkRecord[];
  readonly status: { readonly code: "UNSET" | "OK" | "ERROR"; readonly message: string };
  /** All attributes of the resource, `service.name` included. */
  readonly resource: Attributes;
}
