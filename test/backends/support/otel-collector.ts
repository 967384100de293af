import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { exportFromJson } from "../../../src/studio/otlp-http.js";
import { spansFromOtlp } from "../../../src/studio/otlp-spans.js";
import type { SpanRecord } from "../../../src/trace/span-record.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { steadyPort } from "../../support/steady-port.js";
import type { Backend } from "./backend.js";
import { type BackendProcess, programOf, startBackend, until } from "./backend-process.js";
import { type CollectedLogRecord, logRecordsOf } from "./collected-log-records.js";

/** An OpenTelemetry Collector that writes what it gets to files. */
export interface OtelCollector extends Backend {
  /** All spans that it has written, since its first start, as often as it got them. */
  spans(): Promise<SpanRecord[]>;
  /** All log records likewise. */
  logRecords(): Promise<CollectedLogRecord[]>;
  stop(): Promise<void>;
  /** Starts it again, at the same ports. */
  start(): Promise<void>;
}

/** Starts the OpenTelemetry Collector for a test. */
export async function startOtelCollector(t: TestContext): Promise<OtelCollector> {
  const folder = await temporaryFolder();
  const [grpc, http] = [await steadyPort(), await steadyPort()];
  /** One for each start: the exporter begins its file anew. */
  const starts: { readonly traces: string; readonly logs: string }[] = [];
  let running: BackendProcess | undefined;

  const start = async () => {
    const files = {
      traces: join(folder, `traces-${starts.length}.json`),
      logs: join(folder, `logs-${starts.length}.json`),
    };
    const configFile = join(folder, "otelcol.yaml");
    await writeFile(configFile, configOf(grpc, http, files));
    starts.push(files);
    running = await startBackend(t, programOf("OTELCOL"), configFile);
  };
  const exportsIn = async (kind: "traces" | "logs") => {
    const files = starts.map((of) => of[kind]).filter(existsSync);
    const texts = await Promise.all(files.map((file) => readFile(file, "utf8")));
    // The last line may still be on its way to the disk.
    const lines = texts.flatMap((text) => text.slice(0, text.lastIndexOf("\n") + 1).split("\n"));
    return lines.filter((line) => line !== "");
  };
  const spans = async () =>
    (await exportsIn("traces")).flatMap((line) => [...spansFromOtlp(exportFromJson(line)).spans]);

  await start();
  return {
    endpoints: { grpc: `http://127.0.0.1:${grpc}`, "http/protobuf": `http://127.0.0.1:${http}` },
    spans,
    logRecords: async () => (await exportsIn("logs")).flatMap(logRecordsOf),
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

function configOf(grpc: number, http: number, files: { readonly traces: string; readonly logs: string }): string {
  return `
receivers:
  otlp:
    protocols:
      grpc: { endpoint: "127.0.0.1:${grpc}" }
      http: { endpoint: "127.0.0.1:${http}" }
exporters:
  file/traces: { path: "${files.traces}", flush_interval: 100ms }
  file/logs: { path: "${files.logs}", flush_interval: 100ms }
service:
  pipelines:
    traces: { receivers: [otlp], exporters: [file/traces] }
    logs: { receivers: [otlp], exporters: [file/logs] }
  telemetry: { metrics: { level: none } }
`;
}
