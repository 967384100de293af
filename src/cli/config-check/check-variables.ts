import { type Environment, TelemetryConfigError } from "../../trace/telemetry/environment.js";
import { createConnect } from "../../trace/telemetry/otlp-connection.js";
import type { OtlpSettings } from "../../trace/telemetry/otlp-settings.js";
import { readTelemetrySettings } from "../../trace/telemetry/telemetry.js";
import type { UnknownVariable } from "../options/nearest-name.js";
import type { SettingProblem } from "../options/setting-problem.js";
import type { Problems } from "./problems.js";

/** Checks the variables of traces, metrics and exported logs, and the files that they name. */
export async function checkTelemetry(
  given: Environment,
  prometheusPort: number | undefined,
  problems: Problems,
): Promise<void> {
  const environment: Record<string, string | undefined> = { ...given };
  const ignored = new Map<string, string>();
  const log = {
    warn({ variable }: Readonly<Record<string, unknown>>, message: string) {
      // The same variable is read for several signals.
      ignored.set(String(variable), message);
    },
  };
  // The start ends at the first wrong variable: each is left out in its turn, to see the next.
  for (;;) {
    try {
      const { spanSettings, metricsSettings, logSettings } = readTelemetrySettings({
        environment,
        log,
        prometheusPort,
      });
      await checkOtlpFiles([spanSettings?.exporter, metricsSettings.otlp?.exporter, logSettings?.exporter], problems);
      break;
    } catch (error) {
      if (!(error instanceof TelemetryConfigError) || environment[error.variable] === undefined) {
        throw error;
      }
      const { variable, message } = error;
      const problem = message.slice(variable.length + 1);
      problems.add([{ setting: variable, problem, remedy: "correct it; docs/tracing.md has the variables" }]);
      // Without an endpoint, nothing else of the export would be read.
      environment[variable] = variable.endsWith("_ENDPOINT") ? "http://localhost:4317" : undefined;
    }
  }
  for (const [setting, message] of ignored) {
    const problem = message.startsWith(setting) ? message.slice(setting.length + 1) : message;
    problems.add([{ setting, problem, remedy: "correct it, or leave it out for the default" }]);
  }
}

/** Reads the TLS files of the exporters as the first connection does. Opens none. */
async function checkOtlpFiles(exporters: readonly (OtlpSettings | undefined)[], problems: Problems): Promise<void> {
  const seen = new Set<string>();
  for (const settings of exporters) {
    const files = Object.values(settings?.tls ?? {});
    if (settings?.secure && files.length > 0 && !seen.has(files.join())) {
      seen.add(files.join());
      const remedy = "name PEM files of which key and certificate belong together";
      await problems.attempt(
        `OTEL_EXPORTER_OTLP_…: ${files.join(", ")}`,
        remedy,
        () => void createConnect(settings.signal, settings),
      );
    }
  }
}

/** Variables that nothing reads: typing errors, and standard ones of OpenTelemetry that have no effect here. */
export function describeUnknown(variables: readonly UnknownVariable[]): {
  readonly problems: readonly SettingProblem[];
  readonly warnings: readonly SettingProblem[];
} {
  const all = variables.map(({ name, nearest }) => ({
    isTypo: nearest !== undefined || name.startsWith("THROUGHLINE_"),
    setting: name,
    problem: "has no effect: there is no such setting",
    remedy: nearest === undefined ? "remove it; docs/settings.md lists all settings" : `did you mean ${nearest}?`,
  }));
  const plain = ({ setting, problem, remedy }: SettingProblem): SettingProblem => ({ setting, problem, remedy });
  return {
    problems: all.filter(({ isTypo }) => isTypo).map(plain),
    warnings: all.filter(({ isTypo }) => !isTypo).map(plain),
  };
}
