import type { Attributes } from "@opentelemetry/api";

/**
 * How the span of a run, `process`, refers to the span of its creation, `send`: as its child, or by a link in a trace of its own, for
 * samplers that decide before a long wait is over.
 */
export type JobTrace = "parent" | "link";

/**
 * Attributes of `send` and `process`.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
 */
export function jobAttributes(
  operation: "send" | "process",
  job: { readonly id: string; readonly app: string },
): Attributes {
  return {
    "messaging.system": "throughline",
    "messaging.operation.name": operation,
    "messaging.operation.type": operation,
    "messaging.destination.name": job.app,
    "messaging.message.id": job.id,
  };
}
