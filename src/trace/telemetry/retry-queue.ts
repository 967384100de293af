import { maxTimerMs } from "../../timer-limit.js";
import { type Clock, type ExportReport, type LossCause, systemClock } from "./export-report.js";
import type { Connect, ExportOutcome, OtlpConnection } from "./otlp-connection.js";
import { type core, loadSdk } from "./sdk.js";

/** Limits of a retry queue. The queue drops the oldest batches first. */
export interface RetryQueueLimits {
  readonly maxItems: number;
  /** Total encoded size of the batches. */
  readonly maxBytes: number;
}

/** Options of {@link createRetryQueue}. */
export interface RetryQueueOptions<Batch> {
  /** Creates an official exporter with its connection. */
  readonly connect: Connect<Batch>;
  /** Number of spans, log records or data points in a batch. */
  readonly count: (batch: Batch) => number;
  /** Encoded size of a batch in bytes. Called only for batches that wait. */
  readonly size: (batch: Batch) => number;
  readonly limits: RetryQueueLimits;
  /** Timeout of one attempt, in milliseconds. */
  readonly timeoutMs: number;
  /** Time for queued batches at shutdown, in milliseconds. */
  readonly drainMs: number;
  readonly report: ExportReport;
  readonly clock?: Clock;
  /** Random numbers in [0, 1), for the jitter. @default Math.random */
  readonly random?: () => number;
}

/** Counts of items so far. */
export interface ExportCounts {
  /** Accepted by the collector. */
  exported(): number;
  /** Queued or in flight. */
  waiting(): number;
  /** Lost, by cause. */
  lost(): ReadonlyMap<LossCause, number>;
}

/** An exporter with a retry queue, for any signal. */
export interface RetryQueue<Batch> extends ExportCounts {
  /** Accepts a batch at once. */
  export(batch: Batch, settle: (result: core.ExportResult) => void): void;
  /** Does nothing: the queue delays no batch on purpose. */
  forceFlush(): Promise<void>;
  /** Exports queued batches within `drainMs`, then closes. */
  shutdown(): Promise<void>;
  /** Closes the connection at once, abandons the export in flight, and counts the remaining items as lost. */
  close(): void;
}

interface QueuedBatch<Batch> {
  readonly batch: Batch;
  readonly items: number;
  /** Undefined until the batch has to wait. */
  bytes: number | undefined;
}

/**
 * Creates a retry queue around an official exporter.
 *
 * The official exporters retry only until their timeout (HTTP) or not at all (gRPC). The queue accepts every batch at once, so that the
 * batch processor never waits. It delivers batches in order, one at a time, with backoff after failures. After a failure it recreates
 * the official exporter, with a new connection and the current certificates.
 *
 * A shutdown ends the backoff and tries each queued batch once more, oldest first, within `drainMs`. It stops at the first retryable
 * failure.
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
  /** End of the time for a shutdown. */
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
  /** Sends one batch. A shorter timeout needs a new official exporter; each new one gets half of the time left. */
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
    // The specification forbids retries of rejected items.
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
/** Maximum backoff, without jitter. */
const longestPauseMs = 30_000;
const jitter = 0.2;

/**
 * Exponential backoff with jitter: 1 s, factor 1.6, maximum 30 s, ±20 %.
 *
 * A delay from the collector takes precedence, with up to 20 % added, so that rejected clients do not retry at the same time.
 *
 * @see https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-throttling
 * @see https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md for the first step, the factor and the jitter
 */
function createBackOff(random: () => number) {
  let failures = 0;
  return {
    /** Milliseconds until the next attempt. A collector's delay of 0 counts as none. */
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
