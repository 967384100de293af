import { ProtobufTraceSerializer } from "@opentelemetry/otlp-transformer";
import { core, type tracing } from "@opentelemetry/sdk-node";
import type { BackOff } from "./back-off.js";
import type { Clock } from "./clock.js";
import { createExportQueue, type ExportQueueLimits, type SpanBatch } from "./export-queue.js";
import type { ExportReport, LossCause } from "./export-report.js";
import type { OtlpTransport } from "./otlp-transport.js";

export interface QueuedExporterOptions {
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

/** What has become of the spans so far. */
export interface ExportCounts {
  /** Taken by the collector. */
  exportedSpans(): number;
  /** In the queue, or on their way. */
  waitingSpans(): number;
  /** Gone, by what they were lost to. */
  lostSpans(): ReadonlyMap<LossCause, number>;
}

/** An exporter that keeps what it could not export yet. */
export interface QueuedExporter extends tracing.SpanExporter, ExportCounts {
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
export function createQueuedExporter(options: QueuedExporterOptions): QueuedExporter {
  const { transport, limits, backOff, clock, report } = options;
  const queue = createExportQueue(limits);
  let onItsWay: SpanBatch | undefined;
  let delivering: Promise<void> | undefined;
  let endPause: (() => void) | undefined;
  /** When a shutdown's time is over. */
  let drainBy: number | undefined;
  let isClosed = false;
  let exportedSpans = 0;

  const pause = (delayMs: number) =>
    new Promise<void>((resolve) => {
      const cancel = clock.after(delayMs, resolve);
      endPause = () => {
        cancel();
        resolve();
      };
    });

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
          report.lost(batch.spans + queue.clear(), "shutdown", verdict.reason);
        } else {
          await keep(batch, verdict);
        }
        continue;
      }
      backOff.reset();
      report.recovered();
      if (verdict.kind === "taken") {
        exportedSpans += batch.spans - readResponse(verdict.response, report);
      } else {
        report.lost(batch.spans, "rejected", verdict.reason);
      }
    }
    delivering = undefined;
  };
  const keep = async (batch: SpanBatch, { reason, delayMs }: { reason: string; delayMs?: number }) => {
    report.lost(queue.putBack(batch), "queue_full", `the queue is full: ${reason}`);
    report.waiting(queue.spans(), reason);
    const pauseMs = backOff.next(delayMs);
    if (drainBy === undefined) {
      await pause(pauseMs);
    }
  };
  /** Starts the delivery where it rests. One that runs sees what is added to the queue. */
  const deliver = () => {
    if (queue.spans() > 0) {
      delivering ??= deliverAll();
    }
    return delivering;
  };
  const close = () => {
    if (!isClosed) {
      isClosed = true;
      report.lost((onItsWay?.spans ?? 0) + queue.clear(), "shutdown", "the process ends");
      onItsWay = undefined;
      report.close();
      transport.close();
      endPause?.();
    }
  };
  return {
    export(spans, settle) {
      const request = encode(spans);
      if (isClosed) {
        report.lost(spans.length, "shutdown", "the exporter is closed");
      } else if (request === undefined) {
        report.lost(spans.length, "encoding", "the spans cannot be encoded");
      } else {
        report.lost(queue.add({ spans: spans.length, request }), "queue_full", "the queue is full");
        void deliver();
      }
      settle({ code: core.ExportResultCode.SUCCESS });
    },
    async shutdown() {
      drainBy ??= clock.now() + options.drainMs;
      endPause?.();
      await deliver();
      close();
    },
    close,
    exportedSpans: () => exportedSpans,
    waitingSpans: () => queue.spans() + (onItsWay?.spans ?? 0),
    lostSpans: report.lostSpans,
  };
}

function encode(spans: tracing.ReadableSpan[]): Uint8Array | undefined {
  try {
    // Without room to spare, which would be kept for as long and not be counted.
    return ProtobufTraceSerializer.serializeRequest(spans)?.slice();
  } catch {
    return undefined;
  }
}

/** Tells what a collector did not want of a batch. It is not sent again: the specification forbids it. @returns how many spans that is. */
function readResponse(response: Uint8Array, report: ExportReport): number {
  try {
    const { rejectedSpans = 0, errorMessage = "" } =
      ProtobufTraceSerializer.deserializeResponse(response).partialSuccess ?? {};
    if (rejectedSpans > 0) {
      report.lost(rejectedSpans, "rejected", `rejected by the collector: ${errorMessage}`);
    } else if (errorMessage !== "") {
      report.remark(errorMessage);
    }
    return rejectedSpans;
  } catch {
    // The spans were taken; a collector that answers with something else than it should has said no more than that.
    return 0;
  }
}
