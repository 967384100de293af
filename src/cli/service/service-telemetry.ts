import type { Logger } from "pino";
import type { Environment } from "../../trace/sdk/environment-reader.js";
import { TelemetryConfigError } from "../../trace/sdk/environment-reader.js";
import { createTelemetry, type Telemetry } from "../../trace/sdk/telemetry.js";
import { usageError } from "../command-error.js";

/**
 * Tracing of a service as the environment says.
 *
 * @throws CommandError (bad usage) that names the variable that holds nonsense.
 */
export function createServiceTelemetry(serviceName: string, environment: Environment, log: Logger): Telemetry {
  try {
    return createTelemetry({ serviceName, environment, log });
  } catch (error) {
    throw error instanceof TelemetryConfigError ? usageError(error.message) : error;
  }
}
