import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { createSecureContext, type SecureContext } from "node:tls";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import grpc from "@grpc/grpc-js";
import { type DiagLogger, DiagLogLevel, diag } from "@opentelemetry/api";
import { RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import type { OtlpSettings, Signal } from "./otlp-settings.js";
import {
  type core,
  grpcExporters,
  httpExporters,
  loadExporterBase,
  type logs,
  type metrics,
  type tracing,
} from "./sdk.js";

/** Batch type of each signal. */
export interface ExportBatches {
  readonly traces: tracing.ReadableSpan[];
  readonly metrics: metrics.ResourceMetrics;
  readonly logs: logs.ReadableLogRecord[];
}

/** Result of one try to export a batch. */
export type ExportOutcome =
  /** The collector accepted the batch, except `rejected` items of a partial success. `remark` is its message. */
  | { readonly kind: "delivered"; readonly rejected: number; readonly remark: string }
  /** A retry may succeed, after `delayMs` if the collector sent a delay. */
  | { readonly kind: "retry"; readonly reason: string; readonly delayMs?: number }
  /** A retry would fail: the collector rejected the batch, or it cannot be encoded. */
  | { readonly kind: "final"; readonly cause: "rejected" | "encoding"; readonly reason: string };

/** An official exporter with its connection. Recreated after a failure. */
export interface OtlpConnection<Batch> {
  /** Timeout of one attempt; the official exporters fix it on creation. */
  readonly timeoutMs: number;
  /** Exports a batch once. Never rejects. Abandons an attempt after `timeoutMs` (and 50 ms of slack). */
  export(batch: Batch): Promise<ExportOutcome>;
  /** Closes the connection in any state. */
  close(): void;
}

/** Creates a connection. Each one reads the TLS files again and so uses a renewed certificate. */
export type Connect<Batch> = (timeoutMs: number) => OtlpConnection<Batch>;

/** An official exporter of any signal. */
interface Exporter<Batch> {
  export(batch: Batch, settle: (result: core.ExportResult) => void): void;
  shutdown(): Promise<void>;
}

/** Creates the official exporter of each signal. */
type CreateExporter<Config> = { readonly [S in Signal]: (config: Config) => Exporter<ExportBatches[S]> };

const createGrpcExporter: CreateExporter<
  ConstructorParameters<ReturnType<typeof grpcExporters.traces>["OTLPTraceExporter"]>[0]
> = {
  traces: (config) => new (grpcExporters.traces().OTLPTraceExporter)(config),
  metrics: (config) => new (grpcExporters.metrics().OTLPMetricExporter)(config),
  logs: (config) => new (grpcExporters.logs().OTLPLogExporter)(config),
};

const createHttpExporter: CreateExporter<
  ConstructorParameters<ReturnType<typeof httpExporters.traces>["OTLPTraceExporter"]>[0]
> = {
  traces: (config) => new (httpExporters.traces().OTLPTraceExporter)(config),
  metrics: (config) => new (httpExporters.metrics().OTLPMetricExporter)(config),
  logs: (config) => new (httpExporters.logs().OTLPLogExporter)(config),
};

/** Extra time for the official exporter's own timeout, which does not fire during a slow response. */
const slackMs = 50;

/**
 * Prepares the export of one signal.
 *
 * @throws Error if the TLS files are invalid at the start.
 */
export function createConnect<S extends Signal>(signal: S, settings: OtlpSettings): Connect<ExportBatches[S]> {
  installDiagnostics();
  const secureContext = settings.secure ? createTlsReader(settings.tls) : undefined;
  const compression = loadExporterBase().CompressionAlgorithm[settings.compression === "gzip" ? "GZIP" : "NONE"];
  const { url, headers } = settings;

  const overGrpc = (timeoutMillis: number) => {
    const metadata = new grpc.Metadata();
    for (const [name, value] of Object.entries(headers)) {
      metadata.set(name, value);
    }
    const credentials = secureContext
      ? grpc.credentials.createFromSecureContext(secureContext())
      : grpc.credentials.createInsecure();
    // grpc-js shares a connection, and its backoff of up to 2 min, among channels with equal options. The retry queue has its own backoff.
    const userAgent = `throughline (connection ${randomBytes(4).toString("hex")})`;
    const exporter = createGrpcExporter[signal]({ url, timeoutMillis, metadata, compression, credentials, userAgent });
    // A call in flight ends at its deadline and closes the channel.
    return { exporter, destroy() {} };
  };

  const overHttp = (timeoutMillis: number) => {
    const agent = secureContext
      ? new HttpsAgent({ keepAlive: true, secureContext: secureContext() })
      : new HttpAgent({ keepAlive: true });
    let isDestroyed = false;
    const exporter = createHttpExporter[signal]({
      url,
      timeoutMillis,
      compression,
      httpAgentOptions: () => agent,
      // Called before each attempt, internal retries included. Throwing is the only way to stop those.
      async headers() {
        if (isDestroyed) {
          throw new Error("the connection is closed");
        }
        return { ...headers };
      },
      userAgent: "throughline",
    });
    const destroy = () => {
      isDestroyed = true;
      agent.destroy();
    };
    return { exporter, destroy };
  };

  return (timeoutMs) => {
    const { exporter, destroy } = settings.protocol === "grpc" ? overGrpc(timeoutMs) : overHttp(timeoutMs);
    return {
      timeoutMs,
      export: (batch) => exportOnce(exporter, batch, timeoutMs + slackMs),
      close() {
        destroy();
        exporter.shutdown().catch(() => {});
      },
    };
  };
}

function exportOnce<Batch>(exporter: Exporter<Batch>, batch: Batch, timeoutMs: number): Promise<ExportOutcome> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve({ kind: "retry", reason: `no answer within ${timeoutMs} ms` }), timeoutMs);
    const finish = (outcome: ExportOutcome) => {
      clearTimeout(timer);
      resolve(outcome);
    };
    const remarks: PartialSuccess[] = [];
    try {
      partialSuccesses.run(remarks, () =>
        exporter.export(batch, ({ error, code }) => finish(outcomeOf(code, error, remarks))),
      );
    } catch (error) {
      finish({ kind: "final", cause: "encoding", reason: `cannot be encoded: ${messageOf(error)}` });
    }
  });
}

/** Reads the TLS files each time. Falls back to the last valid ones while they are invalid, such as half a key pair. */
function createTlsReader({ ca, key, cert }: OtlpSettings["tls"]): () => SecureContext {
  const read = () =>
    createSecureContext({
      ...(ca !== undefined && { ca: readFileSync(ca) }),
      ...(key !== undefined && { key: readFileSync(key) }),
      ...(cert !== undefined && { cert: readFileSync(cert) }),
    });
  let last = read();
  return () => {
    try {
      last = read();
    } catch {
      // The next connection reads them again.
    }
    return last;
  };
}

const { status } = grpc;

/** Retryable codes of OTLP. RESOURCE_EXHAUSTED is retryable only with a delay from the collector. */
const retryable: ReadonlySet<number> = new Set([
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.ABORTED,
  status.OUT_OF_RANGE,
  status.UNAVAILABLE,
  status.DATA_LOSS,
]);

/**
 * Classifies the result of an official exporter.
 *
 * Over HTTP a numeric code is final: the exporter retries retryable codes itself until its timeout and then reports none.
 *
 * @see https://opentelemetry.io/docs/specs/otlp/#failures
 */
export function outcomeOf(
  code: core.ExportResultCode,
  error: Error | undefined,
  partialSuccess: readonly PartialSuccess[] = [],
): ExportOutcome {
  if (code === 0) {
    const { rejected = 0, remark = "" } = partialSuccess[0] ?? {};
    return { kind: "delivered", rejected, remark };
  }
  const reason = messageOf(error);
  if (error === undefined || !("code" in error) || typeof error.code !== "number") {
    return { kind: "retry", reason };
  }
  if (!("metadata" in error) || !(error.metadata instanceof grpc.Metadata)) {
    return { kind: "final", cause: "rejected", reason: `HTTP status ${error.code} ${reason}`.trim() };
  }
  const delayMs = retryDelayMsOf(error.metadata);
  if (retryable.has(error.code) || (error.code === status.RESOURCE_EXHAUSTED && delayMs !== undefined)) {
    return { kind: "retry", reason, ...(delayMs !== undefined && { delayMs }) };
  }
  return { kind: "final", cause: "rejected", reason };
}

/** The delay of a `google.rpc.RetryInfo` among the details of a status. */
function retryDelayMsOf(metadata: grpc.Metadata): number | undefined {
  const details = metadata.get("grpc-status-details-bin")[0];
  if (!(details instanceof Buffer)) {
    return undefined;
  }
  try {
    const trailer = new Headers({ "grpc-status-details-bin": details.toString("base64") });
    const delay = findTrailerError(trailer)?.findDetails(RetryInfoSchema)[0]?.retryDelay;
    return delay && Number(delay.seconds) * 1000 + delay.nanos / 1_000_000;
  } catch {
    // Ignore invalid details; the code still applies.
    return undefined;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message || error.name : "unknown";
}

/** Partial success of an export. */
export interface PartialSuccess {
  readonly rejected: number;
  readonly remark: string;
}

/** Partial successes of the current export. The official exporters log them only to OpenTelemetry's process-wide diagnostic logger. */
const partialSuccesses = new AsyncLocalStorage<PartialSuccess[]>();

const nothing = () => {};
const diagnostics: DiagLogger = {
  verbose: nothing,
  debug: nothing,
  info: nothing,
  error: nothing,
  warn: (_message, ...details) => partialSuccesses.getStore()?.push(...details.flatMap(partialSuccessOf)),
};

/** Installs the diagnostic logger, unless the application has set its own. */
function installDiagnostics(): void {
  const globals: unknown = Reflect.get(globalThis, Symbol.for("opentelemetry.js.api.1"));
  if (typeof globals !== "object" || globals === null || !("diag" in globals)) {
    diag.setLogger(diagnostics, DiagLogLevel.WARN);
  }
}

const rejectedFields = ["rejectedSpans", "rejectedDataPoints", "rejectedLogRecords"];

/** Parses the exporter's JSON. */
function partialSuccessOf(detail: unknown): PartialSuccess[] {
  try {
    const fields: unknown = typeof detail === "string" ? JSON.parse(detail) : undefined;
    const known = new Map(typeof fields === "object" && fields !== null ? Object.entries(fields) : []);
    const rejected = rejectedFields.map((field) => Number(known.get(field) ?? 0)).reduce((sum, items) => sum + items);
    const remark = String(known.get("errorMessage") ?? "");
    return rejected > 0 || remark !== "" ? [{ rejected, remark }] : [];
  } catch {
    // Another message of the SDK; the batch was delivered.
    return [];
  }
}
