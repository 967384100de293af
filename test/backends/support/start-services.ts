import type { TestContext } from "node:test";
import { startCommand } from "../../cli/support/run-command.js";

/** Starts a worker with the embedded model and a pipeline before it, as processes of their own. @returns the pipeline's URL. */
export async function startServices(
  t: TestContext,
  environment: Readonly<Record<string, string>>,
  pipelineFlags: readonly string[] = [],
): Promise<string> {
  const quick = { OTEL_BSP_SCHEDULE_DELAY: "200", OTEL_BLRP_SCHEDULE_DELAY: "200", OTEL_METRICS_EXPORTER: "none" };
  const urlOf = async (args: readonly string[]) => {
    const command = startCommand(t, [...args, "--port", "0"], { ...quick, ...environment });
    return (await command.waitFor(/is ready at (\S+)/))[1] ?? "";
  };
  const app = "local/text-to-image-worker";
  const worker = await urlOf(["worker", "--app", app, "--device", "cpu"]);
  return urlOf(["pipeline", "--worker", `${app}=${new URL(worker).host}`, ...pipelineFlags]);
}

/** A request that is generated quickly, and the same each time. */
export const quickGeneration = { seed: 7, numInferenceSteps: 2, width: 64, height: 64 };
