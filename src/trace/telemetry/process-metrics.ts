import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import type { Meter } from "@opentelemetry/api";

/** How often the delay is looked at, in milliseconds: what blocks for less is not seen. */
const resolutionMs = 20;

/** The histogram's values are the times between two looks, in nanoseconds. @returns how much too long they are, in seconds. */
const delayOf = (nanoseconds: number) => Math.max(0, nanoseconds / 1e9 - resolutionMs / 1000);

/**
 * Measures the process by the conventions for Node.js and for processes: how late its event loop is and how busy, its memory, its CPU time.
 * The delays are those since the last time that anybody read them.
 *
 * @returns what ends it.
 * @see https://opentelemetry.io/docs/specs/semconv/runtime/nodejs-metrics/
 * @see https://opentelemetry.io/docs/specs/semconv/system/process-metrics/
 */
export function measureProcess(meter: Meter): () => void {
  const delays = monitorEventLoopDelay({ resolution: resolutionMs });
  delays.enable();
  let utilization = performance.eventLoopUtilization();

  const delayGauge = (name: string, description: string) =>
    meter.createObservableGauge(`nodejs.eventloop.delay.${name}`, { unit: "s", description });
  const min = delayGauge("min", "Least delay of the event loop since the last reading.");
  const max = delayGauge("max", "Longest delay of the event loop since the last reading.");
  const mean = delayGauge("mean", "Mean delay of the event loop since the last reading.");
  const stddev = delayGauge("stddev", "Standard deviation of the event loop's delay since the last reading.");
  const p50 = delayGauge("p50", "Median delay of the event loop since the last reading.");
  const p90 = delayGauge("p90", "90th percentile of the event loop's delay since the last reading.");
  const p99 = delayGauge("p99", "99th percentile of the event loop's delay since the last reading.");
  const busy = meter.createObservableGauge("nodejs.eventloop.utilization", {
    unit: "1",
    description: "Share of the time since the last reading in which the event loop was busy.",
  });
  const memory = meter.createObservableUpDownCounter("process.memory.usage", {
    unit: "By",
    description: "Resident memory of the process. A worker's engine is another process.",
  });
  const cpu = meter.createObservableCounter("process.cpu.time", { unit: "s", description: "CPU time of the process." });

  meter.addBatchObservableCallback(
    (result) => {
      // Without a sample there is no delay to tell of.
      if (delays.count > 0) {
        result.observe(min, delayOf(delays.min));
        result.observe(max, delayOf(delays.max));
        result.observe(mean, delayOf(delays.mean));
        result.observe(stddev, delays.stddev / 1e9);
        result.observe(p50, delayOf(delays.percentile(50)));
        result.observe(p90, delayOf(delays.percentile(90)));
        result.observe(p99, delayOf(delays.percentile(99)));
        delays.reset();
      }
      const now = performance.eventLoopUtilization();
      result.observe(busy, performance.eventLoopUtilization(now, utilization).utilization);
      utilization = now;
      result.observe(memory, process.memoryUsage.rss());
      const { user, system } = process.cpuUsage();
      result.observe(cpu, user / 1e6, { "cpu.mode": "user" });
      result.observe(cpu, system / 1e6, { "cpu.mode": "system" });
    },
    [min, max, mean, stddev, p50, p90, p99, busy, memory, cpu],
  );
  return () => void delays.disable();
}
