import pino from "pino";
import type { AppOptions } from "../../../src/app/app.js";
import { createTelemetry } from "../../../src/trace/telemetry/telemetry.js";

/** Options of an app that exports no traces and writes no log. */
export function appOptions(name: string): Pick<AppOptions, "name" | "telemetry" | "logger"> {
  return {
    name,
    telemetry: createTelemetry({ serviceName: name, environment: {}, exporters: [], log: { warn() {} } }),
    logger: pino({ level: "silent" }),
  };
}
