import { Code, ConnectError } from "@connectrpc/connect";
import type { Attributes, Span } from "@opentelemetry/api";

/**
 * Errors that already stand on a span. An error passes through every scope between the place where it happened and the root, and
 * belongs on the innermost one only.
 */
const recorded = new WeakSet<object>();

/**
 * Records an error as an `exception` event on the span it happened in. Does nothing where the error, or one that it was made from
 * (its `cause`), was recorded before: on its way up an error is often mapped to another.
 *
 * The event must never carry what a caller sent, so it holds less than `Span.recordException` would write:
 * - `exception.type`: the error's name, always;
 * - `exception.message`: only what {@link messageForCallers} gives;
 * - never a stack: its first line is the message, and its paths are nobody's business.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-spans/
 */
export function recordException(span: Span, error: unknown): void {
  if (!span.isRecording() || wasRecorded(error)) {
    return;
  }
  if (typeof error === "object" && error !== null) {
    recorded.add(error);
  }
  span.addEvent("exception", describe(error));
}

/**
 * The text of an error where it was written for callers, and so may stand on a span: only of a ConnectError. Not when the text is a
 * copy of its cause's (`ConnectError.from` copies the message of any error, JSON parse errors included, and those quote their input),
 * and not with INVALID_ARGUMENT, the one code whose texts are about what the caller sent.
 */
export function messageForCallers(error: unknown): string | undefined {
  if (!(error instanceof ConnectError) || error.rawMessage === "" || error.code === Code.InvalidArgument) {
    return undefined;
  }
  const { cause, rawMessage } = error;
  const isCopy = cause instanceof Error ? cause.message === rawMessage : cause === rawMessage;
  return isCopy ? undefined : rawMessage;
}

function wasRecorded(error: unknown): boolean {
  const seen = new Set<unknown>();
  for (let link = error; typeof link === "object" && link !== null && !seen.has(link); ) {
    if (recorded.has(link)) {
      return true;
    }
    seen.add(link);
    link = "cause" in link ? link.cause : undefined;
  }
  return false;
}

function describe(error: unknown): Attributes {
  if (!(error instanceof Error)) {
    return { "exception.type": typeof error };
  }
  const message = messageForCallers(error);
  return { "exception.type": error.name, ...(message !== undefined && { "exception.message": message }) };
}
