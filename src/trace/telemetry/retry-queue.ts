import { maxTimerMs } from "./environment.js";
import { type Clock, type ExportReport, type LossCause, systemClock } from "./export-report.js";
import type { Connect, ExportOutcome, OtlpConnection } from "./otlp-connection.js";
import { type core, loadSdk } from "./sdk.js";

/** Bounds of a retry queue. What exceeds them is dropped, the oldest first. */
export interface RetryQueueLimits {
  readonly maxItems: number;
  /** Of the batches together, as they would be encoded. */
  readonly maxBytes: number;
}

/** Options of {@link createRetryQueue}. */
export interface RetryQueueOptions<Batch> {
  /** Makes an official exporter with its connection. */
  readonly connect: Connect<Batch>;
  /** How many spans, log records or data points a batch has. */
  readonly count: (batch: Batch) => number;
  /** Encoded size of a batch in bytes. Only one that has to wait is measured. */
  readonly size: (batch: Batch) => number;
  readonly limits: RetryQueueLimits;
  /** Most that one try may take. */
  readonly timeoutMs: number;
  /** Time that a shutdown has for what is queued. */
  readonly drainMs: number;
  readonly report: ExportReport;
  readonly clock?: Clock;
  /** Numbers from 0 up to 1, for the jitter. @default Math.random */
  readonly random?: () => number;
}

/** Counts of items so far. */
export interface ExportCounts {
  /** Taken by the collector. */
  exported(): number;
  /** In the queue, or being sent. */
  waiting(): number;
  /** Lost, by cause. */
  lost(): ReadonlyMap<LossCause, number>;
}

/** An exporter of any signal that keeps what it could not export yet. */
export interface RetryQueue<Batch> extends ExportCounts {
  /** Accepts a batch at once. */
  export(batch: Batch, settle: (result: core.ExportResult) => void): void;
  /** Does nothing: no batch is held back. */
  forceFlush(): Promise<void>;
  /** Exports what it can within `drainMs`, and closes. */
  shutdown(): Promise<void>;
  /** Closes the connection at once, abandons the export in flight, and counts what is left as lost. */
  close(): void;
}

interface QueuedBatch<Batch> {
  readonly batch: Batch;
  readonly items: number;
  /** Undefined until it has to wait. */
  bytes: number | undefined;
}

/**
 * The retry queue around an official exporter: those over gRPC never try again, and those over HTTP give up after their time-out. It
 * accepts every batch at once, so that the processor before it never waits, and delivers the batches in their order, one at a time,
 * with back-off after failures. After a failure the official exporter is made anew, with a new connection and the certificates of then.
 *
 * A shutdown ends the back-off and tries what is queued once more, the oldest first, in the time that it has. The first failure that
 * a later try could mend ends that, because there is no later.
 */
export function createRetryQueue<Batch>(options: RetryQueueOptions<Batch>): RetryQueue<Batch> {
  const { limits, report, clock = systemClock } = options;
  const queue: QueuedBatch<Batch>[] = [];
  const backOff = createBackOff(options.random ?? Math.random);
  let queuedItems = 0;
  let queuedBytes = 0;
  let inFlight: QueuedBatch<Batch> | undefined;
  let delivering: Promise<void> | undefined;
  let connection: OtlpConnection<Batch> | undefined;
  /** When the time of a shutdown is over. */
  let drainBy: number | undefined;
  let endPause = () => {};
  let isClosed = false;
  let exported = 0;

  const take = (): QueuedBatch<Batch> | undefined => {
    const first = queue.shift();
    queuedItems -= first?.items ?? 0;
    queuedBytes -= first?.bytes ?? 0;
    return first;
  };
  const keep = (entry: QueuedBatch<Batch>, place: "first" | "last", reason: string) => {
    try {
      entry.bytes ??= options.size(entry.batch);
    } catch {
      report.lost(entry.items, "encoding", "cannot be encoded");
      return;
    }
    place === "first" ? queue.unshift(entry) : queue.push(entry);
    queuedItems += entry.items;
    queuedBytes += entry.bytes;
    let dropped = 0;
    while (queuedItems > limits.maxItems || queuedBytes > limits.maxBytes) {
      dropped += take()?.items ?? 0;
    }
    report.lost(dropped, "queue_full", reason);
  };
  const clear = () => {
    const items = queuedItems;
    queue.length = 0;
    queuedItems = 0;
    queuedBytes = 0;
    return items;
  };

  const disconnect = () => {
    connection?.close();
    connection = undefined;
  };
  /** Sends one batch. The time-out of an official exporter is fixed: for a shorter one there has to be a new one, so each takes half of what is left. */
  const send = async (batch: Batch): Promise<ExportOutcome> => {
    const leftMs = drainBy === undefined ? options.timeoutMs : Math.max(1, drainBy - clock.now());
    if (connection !== undefined && connection.timeoutMs > leftMs) {
      disconnect();
    }
    try {
      connection ??= options.connect(leftMs < options.timeoutMs ? Math.ceil(leftMs / 2) : options.timeoutMs);
    } catch (error) {
      return { kind: "retry", reason: error instanceof Error ? error.message : "unknown" };
    }
    const outcome = await connection.export(batch);
    if (outcome.kind === "retry") {
      disconnect();
    }
    return outcome;
  };

  const deliverAll = async (first: QueuedBatch<Batch> | undefined) => {
    for (let entry = first ?? take(); entry; entry = take()) {
      inFlight = entry;
      const isLast = drainBy !== undefined;
      const outcome = await send(entry.batch);
      if (isClosed) {
        return;
      }
      inFlight = undefined;
      if (outcome.kind === "retry" && isLast) {
        report.lost(entry.items + clear(), "shutdown", outcome.reason);
      } else if (outcome.kind === "retry") {
        keep(entry, "first", `the queue is full: ${outcome.reason}`);
        report.waiting(queuedItems, outcome.reason);
        await pause(backOff.next(outcome.delayMs));
      } else {
        settle(entry, outcome);
      }
    }
    delivering = undefined;
  };
  const settle = ({ items }: QueuedBatch<Batch>, outcome: Exclude<ExportOutcome, { readonly kind: "retry" }>) => {
    backOff.reset();
    if (outcome.kind === "final") {
      report.lost(items, outcome.cause, outcome.reason);
      return;
    }
    report.delivered();
    exported += items - outcome.rejected;
    // What a collector rejects of a batch is not sent again: the specification forbids it.
    report.lost(outcome.rejected, "rejected", `rejected by the collector: ${outcome.remark}`);
    if (outcome.rejected === 0 && outcome.remark !== "") {
      report.remark(outcome.remark);
    }
  };
  const pause = (delayMs: number) =>
    new Promise<void>((resolve) => {
      if (drainBy !== undefined) {
        return resolve();
      }
      const cancel = clock.after(delayMs, resolve);
      endPause = () => {
        cancel();
        resolve();
      };
    });
  const close = () => {
    if (!isClosed) {
      isClosed = true;
      report.lost((inFlight?.items ?? 0) + clear(), "shutdown", "the process ends");
      inFlight = undefined;
      report.close();
      disconnect();
      endPause();
    }
  };
  return {
    export(batch, settled) {
      const entry = { batch, items: options.count(batch), bytes: undefined };
      if (isClosed) {
        report.lost(entry.items, "shutdown", "the exporter is closed");
      } else if (delivering === undefined) {
        delivering = deliverAll(entry);
      } else {
        keep(entry, "last", "the queue is full");
      }
      settled({ code: loadSdk().core.ExportResultCode.SUCCESS });
    },
    forceFlush: () => Promise.resolve(),
    async shutdown() {
      drainBy ??= clock.now() + options.drainMs;
      endPause();
      await delivering;
      close();
    },
    close,
    exported: () => exported,
    waiting: () => queuedItems + (inFlight?.items ?? 0),
    lost: report.lostItems,
  };
}

const firstPauseMs = 1000;
const factor = 1.6;
/** A collector that comes back does not wait longer than this for what was kept for it, jitter aside. */
const longestPauseMs = 30_000;
const jitter = 0.2;

/**
 * Exponential back-off with jitter: 1 s, then 1.6 times as much after each failure up to 30 s, each a fifth more or less at random. A
 * delay that a collector asks for is kept, with up to a fifth on top, so that the clients it turned away do not come back together.
 *
 * @see https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-throttling
 * @see https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md for the first step, the factor and the jitter
 */
function createBackOff(random: () => number) {
  let failures = 0;
  return {
    /** Milliseconds until the next try; a collector that asks for 0 counts as one that does not ask. */
    next(askedMs = 0): number {
      const ownMs = Math.min(firstPauseMs * factor ** failures, longestPauseMs) * (1 + jitter * (2 * random() - 1));
      failures++;
      return Math.min(askedMs > 0 ? askedMs * (1 + jitter * random()) : ownMs, maxTimerMs);
    },
    reset() {
      failures = 0;
    },
  };
}
