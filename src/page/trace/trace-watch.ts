import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { signal as createSignal, type ReadonlySignal } from "@preact/signals";
import type { Span, StudioService } from "../../gen/throughline/studio/v1/studio_pb.js";
import { backOffMs } from "../service/connection.js";

/** The trace that is looked at. */
export interface WatchedTrace {
  readonly traceId: string;
  /** In no order. While the watching begins anew they are those that were known before. */
  readonly spans: readonly Span[];
  /** Whether more may come. */
  readonly watching: boolean;
}

/** Looks at one trace at a time. */
export interface TraceWatch {
  readonly trace: ReadonlySignal<WatchedTrace | undefined>;
  /** How far the services' clock is ahead of this one, as far as the spans show, in milliseconds: 0 or more. */
  readonly aheadMs: ReadonlySignal<number>;
  /** Looks at this trace from now on. One that is looked at already stays as it is. */
  select(traceId: string): void;
  /** Goes on with this trace if it is looked at and its watching has ended: a job's trace can be still for hours. */
  resume(traceId: string): void;
}

/**
 * Whether spans of a trace run: `yes`; `unknown` while the service or its collector does not answer, or once the collector has had no
 * update of them for 30 s, as after a crash; `no`.
 */
export function isGrowing({ spans, watching }: WatchedTrace, isLive: boolean): "yes" | "no" | "unknown" {
  if (spans.every(({ endUnixNano }) => endUnixNano !== 0n)) {
    return "no";
  }
  return watching && isLive ? "yes" : "unknown";
}

/** What a trace watch needs. */
export interface TraceWatchOptions {
  readonly client: Client<typeof StudioService>;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** 0 to 1, for the pauses between tries. */
  readonly random: () => number;
}

/** Failures in a row after which a trace that cannot be watched is given up. */
const mostFailures = 5;

/** A larger difference is a wrong time in a span, not a clock that is ahead. */
const mostAheadMs = 60_000;

/** Follows traces as they grow. */
export function createTraceWatch({ client, now, random }: TraceWatchOptions): TraceWatch {
  const trace = createSignal<WatchedTrace | undefined>(undefined);
  const aheadMs = createSignal(0);
  let current = new AbortController();

  const follow = async (traceId: string, signal: AbortSignal, onUpdate: () => void): Promise<void> => {
    const spans = new Map<string, Span>();
    for await (const updates of client.watchTrace({ traceId }, { signal })) {
      for (const span of updates.spans) {
        spans.set(span.spanId, span);
        // The services' clock has reached each time that a span contains.
        const seenMs = Number(span.endUnixNano > span.startUnixNano ? span.endUnixNano : span.startUnixNano) / 1e6;
        const seenAheadMs = seenMs - now();
        if (seenAheadMs <= mostAheadMs) {
          aheadMs.value = Math.max(aheadMs.value, seenAheadMs);
        }
      }
      if (!signal.aborted) {
        onUpdate();
        trace.value = { traceId, spans: [...spans.values()], watching: true };
      }
    }
  };

  const spansOf = (traceId: string) => (trace.peek()?.traceId === traceId ? (trace.peek()?.spans ?? []) : []);

  const keepFollowing = async (traceId: string, signal: AbortSignal): Promise<void> => {
    trace.value = { traceId, spans: spansOf(traceId), watching: true };
    // In a row: an update resets the count.
    let failures = 0;
    let goesOn = true;
    while (goesOn && !signal.aborted) {
      try {
        await follow(traceId, signal, () => {
          failures = 0;
        });
        goesOn = false;
      } catch (error) {
        failures++;
        goesOn = ConnectError.from(error).code !== Code.Unauthenticated && failures < mostFailures;
        if (goesOn && !signal.aborted) {
          await new Promise((resolve) => setTimeout(resolve, backOffMs(failures, random())));
        }
      }
    }
    if (!signal.aborted && trace.value?.traceId === traceId) {
      trace.value = { ...trace.value, watching: false };
    }
  };

  const begin = (traceId: string) => {
    current.abort();
    current = new AbortController();
    void keepFollowing(traceId, current.signal);
  };

  return {
    trace,
    aheadMs,
    select(traceId) {
      if (trace.value?.traceId !== traceId || !(trace.value.watching || trace.value.spans.length > 0)) {
        begin(traceId);
      }
    },
    resume(traceId) {
      if (trace.value?.traceId === traceId && !trace.value.watching) {
        begin(traceId);
      }
    },
  };
}
