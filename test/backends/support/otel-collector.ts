import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { exportFromJson } from "../../../src/studio/otlp-json.js";
import { spansFromOtlp } from "../../../src/studio/otlp-spans.js";
import type { SpanRecord } from "../../../src/trace/span-record.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { steadyPort } from "../../support/steady-port.js";
import type { Backend } from "./backend.js";
import { type BackendProcess, programOf, startBackend, until } from "./backend-process.js";

/** An OpenTelemetry Collector that writes what it gets to files. */
export interface OtelCollector extends Backend {
  /** All spans that it has written, since its first start, as often as it got them. */
  spans(): Promise<SpanRecord[]>;
  stop(): Promise<void>;
  /** Starts it again, at the same ports. */
  start(): Promise<void>;
}

/** Starts the OpenTelemetry Collector for a test. */
export async function startOtelCollector(t: TestContext): Promise<OtelCollector> {
  const folder = await temporaryFolder();
  const [grpc, http] = [await steadyPort(), await steadyPort()];
  /** One for each start: the exporter begins its file anew. */
  const files: string[] = [];
  let running: BackendProcess | undefined;

  const start = async () => {
    const file = join(folder, `traces-${files.length}.json`);
    const configFile = join(folder, "otelcol.yaml");
    await writeFile(configFile, configOf(grpc, http, file));
    files.push(file);
    running = await startBackend(t, programOf("OTELCOL"), configFile);
  };
  const spans = async () => {
    const texts = await Promise.all(files.filter(existsSync).map((file) => readFile(file, "utf8")));
    // The last line may still be on its way to the disk.
    const lines = texts.flatMap((text) => text.slice(0, text.lastIndexOf("\n") + 1).split("\n"));
    return lines.filter((line) => line !== "").flatMap((line) => [...spansFromOtlp(exportFromJson(line)).spans]);
  };

  await start();
  return {
    endpoints: { grpc: `http://127.0.0.1:${grpc}`, "http/protobuf": `http://127.0.0.1:${http}` },
    spans,
    trace: (traceId, count) =>
      until(`the trace ${traceId}`, async () => {
        const found = (await spans()).filter((span) => span.traceId === traceId);
        return found.length >= count ? found : undefined;
      }),
    start,
    async stop() {
      await running?.stop();
    },
  };
}

function configOf(grpc: number, http: number, file: string): string {
  return `
receivers:
  otlp:
    protocols:
      grpc: { endpoint: "127.0.0.1:${grpc}" }
      http: { endpoint: "127.0.0.1:${http}" }
exporters:
  file: { path: "${file}", flush_interval: 100ms }
service:
  pipelines:
    traces: { receivers: [otlp], exporters: [file] }
  telemetry: { metrics: { level: none } }
`;
}
