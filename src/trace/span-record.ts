import type { Attributes, SpanKind } from "@opentelemetry/api";

/** Names of span kinds as the contract and OTLP write them. */
export type SpanKindName = keyof typeof SpanKind;

/** Something that happened at a moment of a span. */
export interface SpanEventRecord {
  readonly name: string;
  readonly timeUnixNano: bigint;
  readonly attributes: Attributes;
}

/** A pointer from a span to another one that is not its parent. */
export interface SpanLinkRecord {
  readonly traceId: string;
  readonly spanId: string;
  readonly attributes: Attributes;
}

/**
 * A finished span as plain data, whatever it came from: an SDK in this process or an OTLP message. Ids are lower-case
 * hexadecimal, times are nanoseconds since 1970.
 */
export interface SpanRecord {
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for a root. */
  readonly parentSpanId: string;
  /** `tracestate` as it travels; empty when there is none. */
  readonly traceState: string;
  readonly name: string;
  readonly kind: SpanKindName;
  /** The resource's `service.name`; empty when it has none. */
  readonly service: string;
  readonly startUnixNano: bigint;
  readonly endUnixNano: bigint;
  readonly attributes: Attributes;
  readonly events: readonly SpanEventRecord[];
  readonly links: readonly SpanLinkRecord[];
  readonly status: { readonly code: "UNSET" | "OK" | "ERROR"; readonly message: string };
  /** All attributes of the resource, `service.name` among them. */
  readonly resource: Attributes;
}
