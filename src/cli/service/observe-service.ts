import type { Level } from "pino";
import { type Observed, observe } from "../../app/observe.js";
import { writeGrpcLogTo } from "../../mesh/grpc/grpc-log.js";
import { TelemetryConfigError } from "../../trace/telemetry/environment.js";
import type { CommandContext } from "../command-context.js";
import { usageError } from "../command-error.js";

/**
 * The log of a service, on stderr, and its telemetry as the environment says.
 *
 * @param prometheusPort port where Prometheus shall find metrics, whatever the environment says; undefined where nobody said.
 * @throws CommandError (bad usage) that names the variable that holds nonsense.
 */
export function observeService(
  serviceName: string,
  level: Level | "silent",
  { environment, stderr }: Pick<CommandContext, "environment" | "stderr">,
  prometheusPort: number | undefined,
): Observed {
  try {
    const write = (line: string) => void stderr.write(line);
    const observed = observe({ serviceName, environment, prometheusPort, level, write });
    writeGrpcLogTo(observed.logger);
    return observed;
  } catch (error) {
    throw error instanceof TelemetryConfigError ? usageError(error.message) : error;
  }
}
