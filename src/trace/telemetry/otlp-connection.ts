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

/** What each signal exports at once. */
export interface ExportBatches {
  readonly traces: tracing.ReadableSpan[];
  readonly metrics: metrics.ResourceMetrics;
  readonly logs: logs.ReadableLogRecord[];
}

/** Result of one try to export a batch. */
export type ExportOutcome =
  /** The collector has it, all but the `rejected` items of a partial success; `remark` is its message. */
  | { readonly kind: "delivered"; readonly rejected: number; readonly remark: string }
  /** A later try may succeed, after `delayMs` where the collector asked for it. */
  | { readonly kind: "retry"; readonly reason: string; readonly delayMs?: number }
  /** It would fail again, because of the collector or because the batch cannot be encoded. */
  | { readonly kind: "final"; readonly cause: "rejected" | "encoding"; readonly reason: string };

/** One official exporter with its connection. It is made anew after a failure. */
export interface OtlpConnection<Batch> {
  /** Most that one try may take; fixed when an official exporter is made. */
  readonly timeoutMs: number;
  /** Exports a batch, once. Never rejects. A try that is not over after `timeoutMs` is abandoned. */
  export(batch: Batch): Promise<ExportOutcome>;
  /** Closes the connection, whatever state it is in. */
  close(): void;
}

/** Makes connections; each reads the files of TLS as they are then, so that a renewed certificate counts from the next one on. */
export type Connect<Batch> = (timeoutMs: number) => OtlpConnection<Batch>;

/** An official exporter of any signal. */
interface Exporter<Batch> {
  export(batch: Batch, settle: (result: core.ExportResult) => void): void;
  shutdown(): Promise<void>;
}

/** Makes the official exporter of each signal. */
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

/** Time for the official exporter to report its own time-out. Where it does not, for example while an answer trickles in, the try is abandoned. */
const slackMs = 50;

/**
 * Prepares the export of one signal.
 *
 * @throws Error where the files of TLS are wrong from the beginning.
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
    // grpc-js shares a connection among channels with equal options, and with it a back-off of up to two minutes. Here the queue has the schedule.
    const userAgent = `throughline (connection ${randomBytes(4).toString("hex")})`;
    const exporter = createGrpcExporter[signal]({ url, timeoutMillis, metadata, compression, credentials, userAgent });
    // A call in flight ends with its deadline, and the channel with it.
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
      // Asked for before each try, also before those that the official exporter makes by itself: it has no other way to be stopped.
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

/** Reads the files of TLS each time. While they are wrong, such as half of a pair, the last ones that were right count. */
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

/** Codes that OTLP calls retryable; RESOURCE_EXHAUSTED is one only where the collector says when. */
const retryable: ReadonlySet<number> = new Set([
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.ABORTED,
  status.OUT_OF_RANGE,
  status.UNAVAILABLE,
  status.DATA_LOSS,
]);

/**
 * What the result of an official exporter means. Over HTTP a numeric code is final: the retryable ones have none, and the exporter has
 * tried again by itself as long as its time allowed.
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
    // Details that cannot be read say nothing; the code still does.
    return undefined;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message || error.name : "unknown";
}

/** What a collector rejected of an export that it took. */
export interface PartialSuccess {
  readonly rejected: number;
  readonly remark: string;
}

/** Collects the partial successes of the export that runs. The official exporters report them to OpenTelemetry's diagnostic log alone, which is one for the process. */
const partialSuccesses = new AsyncLocalStorage<PartialSuccess[]>();

const nothing = () => {};
const diagnostics: DiagLogger = {
  verbose: nothing,
  debug: nothing,
  info: nothing,
  error: nothing,
  warn: (_message, ...details) => partialSuccesses.getStore()?.push(...details.flatMap(partialSuccessOf)),
};

/** Listens to the diagnostic log, unless the application has set a logger of its own. */
function installDiagnostics(): void {
  const globals: unknown = Reflect.get(globalThis, Symbol.for("opentelemetry.js.api.1"));
  if (typeof globals !== "object" || globals === null || !("diag" in globals)) {
    diag.setLogger(diagnostics, DiagLogLevel.WARN);
  }
}

const rejectedFields = ["rejectedSpans", "rejectedDataPoints", "rejectedLogRecords"];

/** The exporter hands it on as JSON. */
function partialSuccessOf(detail: unknown): PartialSuccess[] {
  try {
    const fields: unknown = typeof detail === "string" ? JSON.parse(detail) : undefined;
    const known = new Map(typeof fields === "object" && fields !== null ? Object.entries(fields) : []);
    const rejected = rejectedFields.map((field) => Number(known.get(field) ?? 0)).reduce((sum, items) => sum + items);
    const remark = String(known.get("errorMessage") ?? "");
    return rejected > 0 || remark !== "" ? [{ rejected, remark }] : [];
  } catch {
    // Another message of the SDK: the batch was delivered all the same.
    return [];
  }
}
