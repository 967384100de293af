// Run as a process of its own: makes a span and a line of the log for each environment in argv[2], shuts all down at the same time, and writes what
// happened as JSON when the process has nothing left to do. It never exits by itself.
import { ROOT_CONTEXT } from "@opentelemetry/api";
import { withSpan } from "../../src/trace/span-scope.js";
import { createTelemetry } from "../../src/trace/telemetry/telemetry.js";

const environments: Record<string, Record<string, string>> = JSON.parse(process.argv[2] ?? "{}");
const warnings: string[] = [];

const running = await Promise.all(
  Object.entries(environments).map(async ([name, environment]) => {
    const log = {
      warn: (_: object, message: string) => {
        const [, what] = /^(.*) could not be exported$/.exec(message) ?? [];
        if (what !== undefined) {
          warnings.push(`${what}: ${name}`);
        }
      },
    };
    const telemetry = createTelemetry({ serviceName: name, environment, log });
    await withSpan(telemetry.tracer, "work", { parent: ROOT_CONTEXT }, () => {});
    telemetry.exportLog('{"level":"info","msg":"work"}');
    return { name, telemetry };
  }),
);
// Where the schedule is quick an export is on its way by now, as in a busy service.
await new Promise((resolve) => setTimeout(resolve, 50));

const unsettled = new Set(running.map(({ name }) => name));
let late: string[] = [];
let keptAliveBy: string[] = [];
// By timers of this process, which are late together with all others on a busy machine. They keep nothing alive themselves.
setTimeout(() => {
  late = [...unsettled];
}, 4_000).unref();
setTimeout(() => {
  keptAliveBy = process.getActiveResourcesInfo();
}, 8_000).unref();
await Promise.all(
  running.map(async ({ name, telemetry }) => {
    await withSpan(telemetry.tracer, "last work", { parent: ROOT_CONTEXT }, () => {});
    telemetry.exportLog('{"level":"info","msg":"last work"}');
    await Promise.all([telemetry.shutdown(), telemetry.shutdown()]);
    unsettled.delete(name);
  }),
);
process.once("exit", () => process.stdout.write(JSON.stringify({ late, keptAliveBy, warnings })));
