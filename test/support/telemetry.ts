import type { TestContext } from "node:test";
import { createSpanCollector, type SpanCollector } from "../../src/trace/sdk/span-collector.js";
import { createTelemetry, type Telemetry } from "../../src/trace/sdk/telemetry.js";

/** Tracing of one service whose spans stay in memory; it is shut down after the test. */
export function testTelemetry(
  t: TestContext,
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
