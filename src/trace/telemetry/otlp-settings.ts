import { validateHeaderName, validateHeaderValue } from "node:http";
import grpc from "@grpc/grpc-js";
import { maxTimerMs } from "../../timer-limit.js";
import { reject, type Setting, TelemetryConfigError, type VariableReader } from "./environment.js";
import { loadSdk } from "./sdk.js";

/** Signals of OTLP. Each has its own export service. */
export type Signal = "traces" | "metrics" | "logs";

/** OTLP export settings of one signal. */
export interface OtlpSettings {
  readonly signal: Signal;
  readonly protocol: "grpc" | "http/protobuf";
  /** gRPC endpoint with a scheme, or full HTTP URL with the path. */
  readonly url: string;
  /** Whether the connection is encrypted. */
  readonly secure: boolean;
  readonly headers: Readonly<Record<string, string>>;
  /** Timeout of one attempt, in milliseconds. */
  readonly timeoutMs: number;
  readonly compression: "none" | "gzip";
  /** Paths of PEM files: CA certificates (default: Node's), and the client's key and certificate. */
  readonly tls: { readonly ca?: string; readonly key?: string; readonly cert?: string };
}

/** Maximum timeout of one attempt. Below OTLP's default of 10 s, so that an attempt in flight fits into the 4 s of a shutdown. */
const maxTimeoutMs = 3000;

const signalNames = { traces: "TRACES", metrics: "METRICS", logs: "LOGS" } as const satisfies Record<Signal, string>;

/**
 * Reads the environment variables of the OTLP exporter.
 *
 * Variables of the signal take precedence over the general ones. The official exporters read `process.env` only; they receive these
 * settings instead.
 *
 * @returns undefined if no endpoint is set.
 * @throws TelemetryConfigError if the endpoint, a file or a header is invalid.
 */
export function readOtlpSettings(reader: VariableReader, signal: Signal): OtlpSettings | undefined {
  const own = signalNames[signal];
  const both = <Name extends OtlpVariable>(name: Name) =>
    [`OTEL_EXPORTER_OTLP_${own}_${name}`, `OTEL_EXPORTER_OTLP_${name}`] as const;
  const protocol = reader.choice(["grpc", "http/protobuf"], ...both("PROTOCOL")) ?? "grpc";
  const insecure = reader.choice(["true", "false"], ...both("INSECURE")) === "true";
  const timeoutMs = reader.number({ min: 1, max: maxTimerMs }, ...both("TIMEOUT")) ?? maxTimeoutMs;
  const compression = reader.choice(["none", "gzip"], ...both("COMPRESSION")) ?? "none";
  const ca = reader.file(...both("CERTIFICATE"));
  const key = reader.file(...both("CLIENT_KEY"));
  const cert = reader.file(...both("CLIENT_CERTIFICATE"));
  const endpoint = reader.text(...both("ENDPOINT"));
  if (endpoint === undefined) {
    return undefined;
  }
  const place = protocol === "grpc" ? grpcPlace(endpoint, insecure) : httpPlace(endpoint, signal);
  const [ownHeaders, headers] = both("HEADERS").map((variable) => readHeaders(reader.text(variable), protocol));
  return {
    signal,
    protocol,
    ...place,
    headers: { ...headers, ...ownHeaders },
    timeoutMs: Math.min(timeoutMs, maxTimeoutMs),
    compression,
    tls: { ...(ca && { ca }), ...(key && { key }), ...(cert && { cert }) },
  };
}

type OtlpVariable =
  | "ENDPOINT"
  | "PROTOCOL"
  | "HEADERS"
  | "TIMEOUT"
  | "COMPRESSION"
  | "INSECURE"
  | "CERTIFICATE"
  | "CLIENT_KEY"
  | "CLIENT_CERTIFICATE";

function grpcPlace(endpoint: Setting, insecure: boolean): Pick<OtlpSettings, "url" | "secure"> {
  const { value } = endpoint;
  const url = /^\w+:\/\//.test(value) ? value : `${insecure ? "http" : "https"}://${value}`;
  const { protocol, hostname } = URL.canParse(url) ? new URL(url) : { protocol: "", hostname: "" };
  if (protocol !== "unix:" && (!["http:", "https:"].includes(protocol) || hostname === "")) {
    reject(endpoint, "a URL such as http://localhost:4317, with http, https or unix before ://");
  }
  return { url, secure: protocol === "unix:" ? !insecure : protocol === "https:" };
}

function httpPlace(endpoint: Setting, signal: Signal): Pick<OtlpSettings, "url" | "secure"> {
  const { variable, value } = endpoint;
  if (!URL.canParse(value) || !["http:", "https:"].includes(new URL(value).protocol)) {
    reject(endpoint, "a URL such as http://localhost:4318, with http or https before ://");
  }
  const isWhole = variable === `OTEL_EXPORTER_OTLP_${signalNames[signal]}_ENDPOINT`;
  return { url: isWhole ? value : `${value.replace(/\/$/, "")}/v1/${signal}`, secure: value.startsWith("https:") };
}

/** Parses headers. Errors never contain a header's value, because it can be a secret. */
function readHeaders(setting: Setting | undefined, protocol: OtlpSettings["protocol"]): Record<string, string> {
  const pairs = readPairs(setting);
  for (const [name, value] of Object.entries(pairs)) {
    try {
      if (protocol === "grpc") {
        new grpc.Metadata().set(name, value);
      } else {
        validateHeaderName(name);
        validateHeaderValue(name, value);
      }
    } catch {
      // Without the cause: its message contains the value.
      throw new TelemetryConfigError(
        setting?.variable ?? "",
        `has a pair that cannot be sent: ${JSON.stringify(name)}`,
      );
    }
  }
  return pairs;
}

/**
 * Parses comma-separated, percent-encoded `key=value` pairs as the SDK does.
 *
 * @throws TelemetryConfigError for an invalid pair, which the SDK would ignore silently.
 */
export function readPairs(setting: Setting | undefined): Record<string, string> {
  const { parseKeyPairsIntoRecord } = loadSdk().core;
  for (const [index, pair] of (setting?.value.split(",") ?? []).entries()) {
    if (pair.trim() !== "" && Object.keys(parseKeyPairsIntoRecord(pair)).length !== 1) {
      const problem = `must be key=value pairs, percent-encoded; pair ${index + 1} is not one`;
      throw new TelemetryConfigError(setting?.variable ?? "", problem);
    }
  }
  return parseKeyPairsIntoRecord(setting?.value);
}

/** Options of the SDK's batch processors. */
export interface BatchSettings {
  readonly maxQueueSize: number;
  readonly maxExportBatchSize: number;
  readonly scheduledDelayMillis: number;
  readonly exportTimeoutMillis: number;
}

/** Default milliseconds between two exports, from the specification. */
const defaultDelayMs = { BSP: 5000, BLRP: 1000 } as const;

/** Reads the variables of a batch processor: `BSP` for spans, `BLRP` for log records. */
export function readBatchSettings(reader: VariableReader, processor: keyof typeof defaultDelayMs): BatchSettings {
  const whole = (name: "MAX_QUEUE_SIZE" | "MAX_EXPORT_BATCH_SIZE" | "SCHEDULE_DELAY" | "EXPORT_TIMEOUT", min: number) =>
    reader.number({ min, max: maxTimerMs }, `OTEL_${processor}_${name}`);
  const maxQueueSize = whole("MAX_QUEUE_SIZE", 1) ?? 2048;
  return {
    maxQueueSize,
    maxExportBatchSize: Math.min(whole("MAX_EXPORT_BATCH_SIZE", 1) ?? 512, maxQueueSize),
    scheduledDelayMillis: whole("SCHEDULE_DELAY", 0) ?? defaultDelayMs[processor],
    exportTimeoutMillis: whole("EXPORT_TIMEOUT", 1) ?? 30_000,
  };
}
