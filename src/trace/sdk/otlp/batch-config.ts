import { type Environment, maxTimerMs, readNumber, readSetting, refuse } from "../environment-reader.js";

/** How what ends or is logged becomes batches. */
export interface BatchConfig {
  readonly maxQueueSize: number;
  readonly maxExportBatchSize: number;
  readonly scheduledDelayMillis: number;
  readonly exportTimeoutMillis: number;
}

/** Milliseconds between two exports where nothing is said, by the specification. */
const defaultDelayMs = { BSP: 5000, BLRP: 1000 } as const;

/**
 * Reads the variables of a batch processor: `BSP` for spans, `BLRP` for log records.
 *
 * @throws TelemetryConfigError when one holds nonsense.
 */
export function readBatchConfig(environment: Environment, processor: keyof typeof defaultDelayMs): BatchConfig {
  const whole = (setting: ReturnType<typeof readSetting>, min: number) =>
    readNumber(setting, { min, max: maxTimerMs, integer: true });
  const maxQueueSize = whole(readSetting(environment, `OTEL_${processor}_MAX_QUEUE_SIZE`), 1) ?? 2048;
  const batchSize = readSetting(environment, `OTEL_${processor}_MAX_EXPORT_BATCH_SIZE`);
  const maxExportBatchSize = whole(batchSize, 1) ?? Math.min(512, maxQueueSize);
  if (batchSize !== undefined && maxExportBatchSize > maxQueueSize) {
    refuse(batchSize, `at most the queue's size, which is ${maxQueueSize}`);
  }
  const delay = readSetting(environment, `OTEL_${processor}_SCHEDULE_DELAY`);
  return {
    maxQueueSize,
    maxExportBatchSize,
    scheduledDelayMillis: whole(delay, 0) ?? defaultDelayMs[processor],
    exportTimeoutMillis: whole(readSetting(environment, `OTEL_${processor}_EXPORT_TIMEOUT`), 1) ?? 30_000,
  };
}
