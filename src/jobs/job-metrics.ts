import type { Meter } from "@opentelemetry/api";
import type { JobStore } from "./job-store.js";

/**
 * Creates the gauges of the queue, which are read from the database with each export. All pipelines of a database report the same.
 *
 * @param onError called when the database does not answer; the gauges then have no point.
 */
export function createJobMetrics(
  meter: Meter,
  store: Pick<JobStore, "counts">,
  onError: (error: unknown) => void,
): void {
  const waiting = meter.createObservableGauge("throughline.jobs.waiting", {
    unit: "{job}",
    description: "Jobs that wait for a worker.",
  });
  const running = meter.createObservableGauge("throughline.jobs.running", {
    unit: "{job}",
    description: "Jobs that run.",
  });
  const oldest = meter.createObservableGauge("throughline.jobs.oldest", {
    unit: "s",
    description: "Age of the oldest job that waits; 0 if none does.",
  });
  const dead = meter.createObservableGauge("throughline.jobs.webhooks.dead", {
    unit: "{webhook}",
    description: "Webhooks whose last try has failed.",
  });
  const up = meter.createObservableGauge("throughline.jobs.database.up", {
    unit: "1",
    description: "1 if the jobs' database answers, else 0.",
  });
  meter.addBatchObservableCallback(
    async (result) => {
      try {
        const counts = await store.counts();
        result.observe(up, 1);
        result.observe(waiting, counts.waiting);
        result.observe(running, counts.running);
        result.observe(oldest, counts.oldestSeconds);
        result.observe(dead, counts.deadWebhooks);
      } catch (error) {
        result.observe(up, 0);
        onError(error);
      }
    },
    [up, waiting, running, oldest, dead],
  );
}
