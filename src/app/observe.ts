import type { Level, Logger } from "pino";
import { createTelemetry, type Telemetry, type TelemetryOptions } from "../trace/telemetry/telemetry.js";
import { createLogger } from "./create-logger.js";

/** Options of {@link observe}. */
export interface ObserveOptions extends Omit<TelemetryOptions, "log"> {
  /** Least level of the log. */
  readonly level: Level | "silent";
  /** Takes each line of the log. */
  readonly write: (line: string) => void;
}

/** What a service tells of itself. */
export interface Observed {
  readonly logger: Logger;
  readonly telemetry: Telemetry;
}

/**
 * The log and the telemetry of one service. Troubles with exports go to the log, and the lines of the log are exported where
 * `OTEL_LOGS_EXPORTER` wants that.
 *
 * @param options of both.
 * @throws TelemetryConfigError when a variable holds nonsense.
 */
export function observe({ level, write, ...options }: ObserveOptions): Observed {
  let exportLog = (_line: string) => {};
  const logger = createLogger({
    service: options.serviceName,
    level,
    write(line) {
      write(line);
      exportLog(line);
    },
  });
  const telemetry = createTelemetry({ ...options, log: logger });
  exportLog = telemetry.exportLog;
  return { logger, telemetry };
}
