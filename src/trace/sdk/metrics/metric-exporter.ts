import { ProtobufMetricsSerializer } from "@opentelemetry/otlp-transformer";
import { core, metrics } from "@opentelemetry/sdk-node";
import type { Clock } from "../clock.js";
import type { BackOff } from "../otlp/back-off.js";
import { oneLine, type TelemetryLog } from "../otlp/export-report.js";
import type { ExportVerdict } from "../otlp/export-verdict.js";
import type { OtlpTransport } from "../otlp/otlp-transport.js";
import { createPause } from "../otlp/pause.js";
import type { TemporalityPreference } from "./metrics-config.js";

/** Options of {@link createMetricExporter}. */
export interface MetricExporterOptions {
  readonly transport: OtlpTransport;
  readonly temporality: TemporalityPreference;
  /** Most that one try may take. */
  readonly tryMs: number;
  /** Most that an export may take, with all its tries. */
  readonly timeoutMs: number;
  /** Time that a shutdown has. */
  readonly drainMs: number;
  readonly backOff: BackOff;
  readonly clock: Clock;
  readonly log: TelemetryLog;
}

/** Pushes metrics by OTLP. */
export interface MetricExporter extends metrics.PushMetricExporter {
  /** Ends the pause between two tries, and leaves each export one try from now on, all within the time of a shutdown. */
  drain(): void;
  /** Lets go of the connections at once, whatever is on its way. */
  close(): void;
}

/**
 * An exporter that tries again, with pauses, until the time of an export is over, and then gives up: the next export brings newer numbers.
 * A failure is told once, and again only after an export went well: many backends take traces and no metrics, and nobody wants to read that
 * once a minute.
 */
export function createMetricExporter(options: MetricExporterOptions): MetricExporter {
  const { transport, temporality, backOff, clock, log } = options;
  let drainBy = Number.POSITIVE_INFINITY;
  let isTold = false;
  let isClosed = false;

  const pause = createPause(clock);

  const deliver = async (request: Uint8Array): Promise<ExportVerdict> => {
    const giveUpAt = clock.now() + options.timeoutMs;
    for (;;) {
      const leftMs = Math.min(giveUpAt, drainBy) - clock.now();
      const verdict = await transport.send(request, Math.max(1, Math.min(options.tryMs, leftMs)));
      if (verdict.kind !== "later") {
        backOff.reset();
        return verdict;
      }
      const pauseMs = backOff.next(verdict.delayMs);
      // What a shutdown has of time is for the numbers at its end.
      const isEnding = drainBy !== Number.POSITIVE_INFINITY;
      if (isEnding || isClosed || clock.now() + pauseMs >= giveUpAt) {
        return verdict;
      }
      await pause.wait(pauseMs);
    }
  };

  const tell = (failure: string | undefined) => {
    if (failure !== undefined && !isTold && !isClosed) {
      log.warn(
        {
          reason: oneLine(failure),
          hint: "not said again before an export goes well; OTEL_METRICS_EXPORTER=none sends none",
        },
        "metrics could not be exported",
      );
    }
    isTold = failure !== undefined;
  };

  const exportAll = async (collected: metrics.ResourceMetrics) => {
    const request = ProtobufMetricsSerializer.serializeRequest(collected);
    if (request === undefined || isClosed) {
      return;
    }
    const verdict = await deliver(request);
    tell(verdict.kind === "taken" ? readRejection(verdict.response) : verdict.reason);
  };

  const close = () => {
    isClosed = true;
    transport.close();
    pause.end();
  };
  return {
    export(collected, settle) {
      // A failure is told here, and would be told by the SDK a second time.
      const settled = () => settle({ code: core.ExportResultCode.SUCCESS });
      exportAll(collected).then(settled, (error) => {
        tell(error instanceof Error ? error.message : "unknown");
        settled();
      });
    },
    selectAggregationTemporality: (type) => temporalityOf(temporality, type),
    forceFlush: () => Promise.resolve(),
    async shutdown() {
      close();
    },
    drain() {
      drainBy = Math.min(drainBy, clock.now() + options.drainMs);
      pause.end();
    },
    close,
  };
}

const { DELTA, CUMULATIVE } = metrics.AggregationTemporality;
const { COUNTER, HISTOGRAM, OBSERVABLE_COUNTER } = metrics.InstrumentType;
const deltaTypes: Record<TemporalityPreference, ReadonlySet<metrics.InstrumentType>> = {
  cumulative: new Set(),
  delta: new Set([COUNTER, HISTOGRAM, OBSERVABLE_COUNTER]),
  lowmemory: new Set([COUNTER, HISTOGRAM]),
};

function temporalityOf(preference: TemporalityPreference, type: metrics.InstrumentType) {
  return deltaTypes[preference].has(type) ? DELTA : CUMULATIVE;
}

/** What a collector did not want of an export; undefined where it took all. */
function readRejection(response: Uint8Array): string | undefined {
  try {
    const { rejectedDataPoints = 0, errorMessage = "" } =
      ProtobufMetricsSerializer.deserializeResponse(response).partialSuccess ?? {};
    return rejectedDataPoints > 0
      ? `${rejectedDataPoints} data points rejected by the collector: ${errorMessage}`
      : undefined;
  } catch {
    // The metrics were taken; a collector that answers with something else than it should has said no more than that.
    return undefined;
  }
}
