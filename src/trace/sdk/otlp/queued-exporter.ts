import { core } from "@opentelemetry/sdk-node";
import type { Clock } from "../clock.js";
import type { BackOff } from "./back-off.js";
import { createExportQueue, type ExportBatch, type ExportQueueLimits } from "./export-queue.js";
import type { ExportReport, LossCause } from "./export-report.js";
import type { OtlpCodec, OtlpRejection } from "./otlp-codec.js";
import type { OtlpTransport } from "./otlp-transport.js";
import { createPause } from "./pause.js";

/** Options of {@link createQueuedExporter}. */
export interface QueuedExporterOptions<Item> {
  readonly codec: OtlpCodec<Item>;
  readonly transport: OtlpTransport;
  readonly limits: ExportQueueLimits;
  /** Most that one try may take. */
  readonly timeoutMs: number;
  /** Time that a shutdown has for what is queued. */
  readonly drainMs: number;
  readonly backOff: BackOff;
  readonly clock: Clock;
  readonly report: ExportReport;
}

/** What has become of the items so far. */
export interface ExportCounts {
  /** Taken by the collector. */
  exported(): number;
  /** In the queue, or on their way. */
  waiting(): number;
  /** Gone, by what they were lost to. */
  lost(): ReadonlyMap<LossCause, number>;
}

/** An exporter of spans or of log records that keeps what it could not export yet. */
export interface QueuedExporter<Item> extends ExportCounts {
  /** Takes a batch at once. */
  export(items: Item[], settle: (result: core.ExportResult) => void): void;
  /** There is nothing that it would hold back. */
  forceFlush(): Promise<void>;
  /** Exports what it can in the time that it has, and closes. */
  shutdown(): Promise<void>;
  /** Lets go of the connections at once, whatever is on its way, and counts what is left as lost. */
  close(): void;
}

/**
 * An exporter that takes every batch at once, so that the processor before it never waits, and gets it to the collector however
 * often that takes: in the order in which the batches came, one at a time, with pauses after failures. What does not fit into
 * the queue's limits is lost, the oldest first.
 *
 * A shutdown ends the pause and tries what is queued once more, the oldest first, in the time that it has. The first failure that
 * a later try could mend ends that, because there is no later.
 */
export function createQueuedExporter<Item>(options: QueuedExporterOptions<Item>): QueuedExporter<Item> {
  const { codec, transport, limits, backOff, clock, report } = options;
  const queue = createExportQueue(limits);
  let onItsWay: ExportBatch | undefined;
  let delivering: Promise<void> | undefined;
  /** When a shutdown's time is over. */
  let drainBy: number | undefined;
  let isClosed = false;
  let exported = 0;

  const pause = createPause(clock);

  const deliverAll = async () => {
    for (let batch = queue.take(); batch; batch = queue.take()) {
      onItsWay = batch;
      const isLast = drainBy !== undefined;
      const leftMs = drainBy === undefined ? options.timeoutMs : Math.max(1, drainBy - clock.now());
      const verdict = await transport.send(batch.request, Math.min(options.timeoutMs, leftMs));
      if (isClosed) {
        return;
      }
      onItsWay = undefined;
      if (verdict.kind === "later") {
        if (isLast) {
          report.lost(batch.items + queue.clear(), "shutdown", verdict.reason);
        } else {
          await keep(batch, verdict);
        }
        continue;
      }
      backOff.reset();
      report.recovered();
      if (verdict.kind === "taken") {
        exported += batch.items - tellRejection(codec.rejection(verdict.response), report);
      } else {
        report.lost(batch.items, "rejected", verdict.reason);
      }
    }
    delivering = undefined;
  };
  const keep = async (batch: ExportBatch, { reason, delayMs }: { reason: string; delayMs?: number }) => {
    report.lost(queue.putBack(batch), "queue_full", `the queue is full: ${reason}`);
    report.waiting(queue.items(), reason);
    const pauseMs = backOff.next(delayMs);
    if (drainBy === undefined) {
      await pause.wait(pauseMs);
    }
  };
  /** Starts the delivery where it rests. One that runs sees what is added to the queue. */
  const deliver = () => {
    if (queue.items() > 0) {
      delivering ??= deliverAll();
    }
    return delivering;
  };
  const close = () => {
    if (!isClosed) {
      isClosed = true;
      report.lost((onItsWay?.items ?? 0) + queue.clear(), "shutdown", "the process ends");
      onItsWay = undefined;
      report.close();
      transport.close();
      pause.end();
    }
  };
  return {
    export(items, settle) {
      const request = codec.encode(items);
      if (isClosed) {
        report.lost(items.length, "shutdown", "the exporter is closed");
      } else if (request === undefined) {
        report.lost(items.length, "encoding", "they cannot be encoded");
      } else {
        report.lost(queue.add({ items: items.length, request }), "queue_full", "the queue is full");
        void deliver();
      }
      settle({ code: core.ExportResultCode.SUCCESS });
    },
    forceFlush: () => Promise.resolve(),
    async shutdown() {
      drainBy ??= clock.now() + options.drainMs;
      pause.end();
      await deliver();
      close();
    },
    close,
    exported: () => exported,
    waiting: () => queue.items() + (onItsWay?.items ?? 0),
    lost: report.lostItems,
  };
}

/** Tells what a collector did not want of a batch. It is not sent again: the specification forbids it. @returns how many items that is. */
function tellRejection({ items, words }: OtlpRejection, report: ExportReport): number {
  if (items > 0) {
    report.lost(items, "rejected", `rejected by the collector: ${words}`);
  } else if (words !== "") {
    report.remark(words);
  }
  return items;
}
