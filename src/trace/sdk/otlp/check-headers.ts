import { TelemetryConfigError } from "../environment-reader.js";
import type { ExporterConfig } from "./exporter-config.js";

/**
 * Refuses headers that cannot be sent, without showing their values.
 *
 * @param check Throws at a name or a value that is not allowed.
 * @throws TelemetryConfigError with the name of the first such header.
 */
export function checkHeaders(headers: ExporterConfig["headers"], check: (name: string, value: string) => void): void {
  for (const [name, value] of Object.entries(headers)) {
    try {
      check(name, value);
    } catch {
      // The cause is left out: its text holds the value.
      throw new TelemetryConfigError(
        "OTEL_EXPORTER_OTLP_HEADERS",
        `has a pair that cannot be sent: ${JSON.stringify(name)}`,
      );
    }
  }
}
