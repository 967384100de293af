import { type Environment, readSetting, readTruth } from "./environment-reader.js";

/** Whether `OTEL_SDK_DISABLED` switches everything off. The specification knows one word for it; nonsense leaves it on. */
export function isSdkDisabled(environment: Environment): boolean {
  return readSetting(environment, "OTEL_SDK_DISABLED")?.value.toLowerCase() === "true";
}

/** Whether `ENABLE_TRACING` leaves tracing on. @throws TelemetryConfigError when it holds nonsense. */
export function wantsTracing(environment: Environment): boolean {
  return readTruth(readSetting(environment, "ENABLE_TRACING"), true);
}
