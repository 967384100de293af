import type { SpanRecord } from "../trace/span-record.js";

/** Figures of what ended within the window; see the contract's CallFigures. */
export interface CallFigures {
  readonly count: number;
  readonly errorCount: number;
  readonly perMinute: number;
  readonly medianMs: number;
  readonly p95Ms: number;
  readonly running: number;
}

/** Apps and the calls between them. */
export interface EntityMap {
  /** In the order of their names. */
  readonly entities: readonly { readonly name: string; readonly figures: CallFigures }[];
  /** In the order of callers, then of callees. */
  readonly calls: readonly { readonly caller: string; readonly callee: string; readonly figures: CallFigures }[];
  /** Milliseconds after which the map differs though nothing comes: a span leaves the window. Undefined where none is in it. */
  readonly changesAfterMs: number | undefined;
}

export interface EntityMapOptions {
  /** Seconds that the map looks back. */
  readonly windowSeconds: number;
  /** Nanoseconds since 1970. */
  readonly nowUnixNano: bigint;
  /** Whether a span without an end still runs. */
  readonly isRunning: (span: SpanRecord) => boolean;
}

/** Maximum number of apps and calls: senders of spans choose the names. */
const maxEntities = 256;
const maxCalls = 1024;

/**
 * The map of apps and calls. An app is all that has one `service.name`. A request of an app is a span whose parent
 * is another app's, or a SERVER or CONSUMER span without a stored parent. Other spans without a parent are the app's own work, such as loading
 * a model, or wait for their parent. A span whose parent is another app's is a call from that app. The first 256 apps and 1,024 calls count.
 *
 * @param traces spans of each trace by their ids.
 */
export function entityMapOf(traces: Iterable<ReadonlyMap<string, SpanRecord>>, options: EntityMapOptions): EntityMap {
  const { windowSeconds, nowUnixNano, isRunning } = options;
  const window = BigInt(windowSeconds) * 1_000_000_000n;
  const entities = new Map<string, Tally>();
  const calls = new Map<string, { readonly caller: string; readonly callee: string; readonly tally: Tally }>();
  let firstEnd: bigint | undefined;
  const entityOf = (name: string): Tally | undefined => {
    const known = entities.get(name);
    if (known !== undefined || entities.size >= maxEntities) {
      return known;
    }
    const tally = emptyTally();
    entities.set(name, tally);
    return tally;
  };
  const callOf = (caller: string, callee: string): Tally | undefined => {
    const key = JSON.stringify([caller, callee]);
    const known = calls.get(key);
    if (known !== undefined || calls.size >= maxCalls) {
      return known?.tally;
    }
    const tally = emptyTally();
    calls.set(key, { caller, callee, tally });
    return tally;
  };

  for (const trace of traces) {
    for (const span of trace.values()) {
      const running = span.endUnixNano === 0n;
      if (running ? !isRunning(span) : nowUnixNano - span.endUnixNano >= window) {
        continue;
      }
      if (!running && (firstEnd === undefined || span.endUnixNano < firstEnd)) {
        firstEnd = span.endUnixNano;
      }
      const entity = entityOf(span.service);
      if (entity === undefined) {
        continue;
      }
      const caller = trace.get(span.parentSpanId)?.service;
      if (caller === undefined ? isAnswer(span) : caller !== span.service) {
        count(entity, span);
      }
      if (caller !== undefined && caller !== span.service) {
        const call = entityOf(caller) && callOf(caller, span.service);
        if (call !== undefined) {
          count(call, span);
        }
      }
    }
  }

  return {
    entities: [...entities]
      .map(([name, tally]) => ({ name, figures: figuresOf(tally, windowSeconds) }))
      .toSorted((a, b) => compare(a.name, b.name)),
    calls: [...calls.values()]
      .map(({ caller, callee, tally }) => ({ caller, callee, figures: figuresOf(tally, windowSeconds) }))
      .toSorted((a, b) => compare(a.caller, b.caller) || compare(a.callee, b.callee)),
    changesAfterMs: firstEnd === undefined ? undefined : Math.max(0, Number(firstEnd + window - nowUnixNano) / 1e6),
  };
}

interface Tally {
  /** Milliseconds of what ended. */
  readonly durationsMs: number[];
  errors: number;
  running: number;
}

function emptyTally(): Tally {
  return { durationsMs: [], errors: 0, running: 0 };
}

function count(tally: Tally, span: SpanRecord): void {
  if (span.endUnixNano === 0n) {
    tally.running++;
    return;
  }
  tally.durationsMs.push(Math.max(0, Number(span.endUnixNano - span.startUnixNano) / 1e6));
  tally.errors += span.status.code === "ERROR" ? 1 : 0;
}

function isAnswer({ kind }: SpanRecord): boolean {
  return kind === "SERVER" || kind === "CONSUMER";
}

function figuresOf({ durationsMs, errors, running }: Tally, windowSeconds: number): CallFigures {
  const sorted = durationsMs.toSorted((a, b) => a - b);
  const { length } = sorted;
  const at = (index: number) => sorted[index] ?? 0;
  return {
    count: length,
    errorCount: errors,
    perMinute: (length * 60) / windowSeconds,
    medianMs: length % 2 === 1 ? at((length - 1) / 2) : (at(length / 2 - 1) + at(length / 2)) / 2,
    // The nearest rank: the least of the durations that 95 % of them do not exceed.
    p95Ms: at(Math.ceil(0.95 * length) - 1),
    running,
  };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
