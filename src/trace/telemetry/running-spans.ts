import { type Context, TraceFlags } from "@opentelemetry/api";
import type { Clock } from "./export-report.js";
import type { Connect } from "./otlp-connection.js";
import type { tracing } from "./sdk.js";

export interface RunningSpansOptions {
  /** Creates a separate connection, so that the export of ended spans never waits. */
  readonly connect: Connect<tracing.ReadableSpan[]>;
  readonly clock: Clock;
}

/** Milliseconds between two checks of the running spans. */
const lookMs = 100;

/** Milliseconds after which an unchanged running span is sent again, as a heartbeat. */
const repeatMs = 10_000;

/** Maximum running spans tracked. Further spans are exported only when they have ended. */
const maxSpans = 2048;

/** Maximum spans in one export. */
const maxBatch = 512;

/** Timeout of an export, in milliseconds. */
const timeoutMs = 1000;

interface Sent {
  /** Fingerprint of the span when it was sent. */
  readonly mark: string;
  readonly atMs: number;
}

/**
 * Exports sampled spans while they run, with `end_time_unix_nano` 0.
 *
 * It sends a span when it starts, when it gets an event or an attribute, and every 10 s. Non-standard: only the built-in collector
 * supports it.
 *
 * Best effort: one export in flight at a time, no retries, no log lines for failures, and no wait at shutdown.
 */
export function createRunningSpans({ connect, clock }: RunningSpansOptions): tracing.SpanProcessor {
  const running = new Map<tracing.ReadableSpan, Sent | undefined>();
  let callOff: (() => void) | undefined;
  let isSending = false;
  let isClosed = false;
  let connection: ReturnType<typeof connect> | undefined;
  const disconnect = () => {
    connection?.close();
    connection = undefined;
  };

  const updates = () => {
    const batch: tracing.ReadableSpan[] = [];
    for (const [span, sent] of running) {
      const mark = markOf(span);
      if (batch.length < maxBatch && (sent?.mark !== mark || clock.now() - sent.atMs >= repeatMs)) {
        batch.push(span);
        running.set(span, { mark, atMs: clock.now() });
      }
    }
    return batch;
  };
  const send = async (batch: tracing.ReadableSpan[]) => {
    isSending = true;
    // Ignore a failure: the span is exported again when it has ended.
    connection ??= connect(timeoutMs);
    const { kind } = await connection.export(batch);
    if (kind === "retry") {
      disconnect();
    }
    isSending = false;
  };
  const lookAgain = () => {
    if (callOff === undefined && !isClosed && running.size > 0) {
      callOff = clock.after(lookMs, look);
    }
  };
  const look = () => {
    callOff = undefined;
    const batch = isSending ? [] : updates();
    if (batch.length > 0) {
      void send(batch);
    }
    lookAgain();
  };

  return {
    onStart(span: tracing.Span, _parent: Context) {
      const sampled = (span.spanContext().traceFlags & TraceFlags.SAMPLED) !== 0;
      if (sampled && !isClosed && running.size < maxSpans) {
        running.set(span, undefined);
        lookAgain();
      }
    },
    onEnd(span) {
      running.delete(span);
    },
    forceFlush: async () => {},
    async shutdown() {
      isClosed = true;
      callOff?.();
      running.clear();
      disconnect();
    },
  };
}

/** Fingerprint of a span; changes with each new attribute or event. */
function markOf({ name, status, attributes, events, droppedEventsCount }: tracing.ReadableSpan): string {
  return [name, status.code, Object.keys(attributes).length, events.length + droppedEventsCount].join(" ");
}
