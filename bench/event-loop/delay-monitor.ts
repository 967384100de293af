import { writeFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";

/*
 * Preloaded into a service: measures the delay of its event loop from SIGUSR2 on, and writes it where BENCH_DELAY_FILE says when the
 * process ends.
 */

const file = process.env["BENCH_DELAY_FILE"];
// The engine's process inherits preloads and environment, but it is the services that must not be held up.
const isService = ["worker", "pipeline"].includes(process.argv[2] ?? "");
if (file !== undefined && isService) {
  const resolution = 5;
  const histogram = monitorEventLoopDelay({ resolution });
  histogram.enable();
  process.on("SIGUSR2", () => histogram.reset());
  process.on("exit", () => {
    // A timer's own period is in what it measures.
    const delayMs = (nanoseconds: number) => Math.max(0, nanoseconds / 1e6 - resolution);
    const [p50, p99] = [delayMs(histogram.percentile(50)), delayMs(histogram.percentile(99))];
    writeFileSync(file, JSON.stringify({ p50, p99, max: delayMs(histogram.max), count: histogram.count }));
  });
}
