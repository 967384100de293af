import { type Context, TraceFlags } from "@opentelemetry/api";
import type { Clock } from "./export-report.js";
import type { Connect } from "./otlp-connection.js";
import type { tracing } from "./sdk.js";

export interface RunningSpansOptions {
  /** Makes a connection of its own, so that the export of ended spans never waits. */
  readonly connect: Connect<tracing.ReadableSpan[]>;
  readonly clock: Clock;
}

/** Milliseconds from one look at the running spans to the next, while there are any. */
const lookMs = 100;

/** Milliseconds after which a running span is sent again though nothing is new, so that a collector knows that it still runs. */
const repeatMs = 10_000;

/** Most running spans that are known of; what begins beyond them is seen when it has ended. */
const maxSpans = 2048;

/** Most spans in one export. */
const maxBatch = 512;

/** Milliseconds that an export may take. */
const timeoutMs = 1000;

interface Sent {
  /** What the span held when it was sent. */
  readonly mark: string;
  readonly atMs: number;
}

/**
 * Sends sampled spans while they run, as an ordinary export with `end_time_unix_nano` 0: when they have begun, again when they got an event or
 * an attribute, and every 10 s. That is a habit of this project and no backend's: only its own collector understands it.
 *
 * It is a courtesy: one export is on its way at a time, what fails is not tried again and not told of, and a shutdown waits for nothing.
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
    // A failure is not reported: the span is exported once more when it has ended.
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

/** Differs when a span got something new: they only ever get more. */
function markOf({ name, status, attributes, events, droppedEventsCount }: tracing.ReadableSpan): string {
  return [name, status.code, Object.keys(attributes).length, events.length + droppedEventsCount].join(" ");
}
