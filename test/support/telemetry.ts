import {
  createMetricCollector,
  createSpanCollector,
  type SpanCollector,
} from "../../src/trace/telemetry/collectors.js";
import { createTelemetry, type Telemetry } from "../../src/trace/telemetry/telemetry.js";

/** What a test context is to those who clean up behind themselves. */
export interface TestEnd {
  after(end: () => unknown): void;
  diagnostic(message: string): void;
}

/** Tracing of one service whose spans stay in memory; it is shut down after the test. */
export function testTelemetry(
  t: TestEnd,
  serviceName: string,
  options: { environment?: Record<string, string>; collector?: SpanCollector } = {},
): Telemetry & { collector: SpanCollector } {
  const collector = options.collector ?? createSpanCollector();
  const telemetry = createTelemetry({
    serviceName,
    environment: options.environment ?? {},
    exporters: [collector.exporter],
    log: { warn: (fields, message) => t.diagnostic(`${message} ${JSON.stringify(fields)}`) },
  });
  t.after(() => telemetry.shutdown());
  return { ...telemetry, collector };
}

/** Metrics of one service that stay in memory; it is shut down after the test. */
export function testMeter(t: Pick<TestEnd, "after">) {
  const collector = createMetricCollector();
  const { meter, shutdown } = createTelemetry({
    serviceName: "test",
    environment: {},
    log: { warn() {} },
    metricReaders: [collector.reader()],
  });
  t.after(shutdown);
  return { meter, read: () => collector.read() };
}
