import { validateHeaderName, validateHeaderValue } from "node:http";
import grpc from "@grpc/grpc-js";
import { maxTimerMs, reject, type Setting, TelemetryConfigError, type VariableReader } from "./environment.js";
import { loadSdk } from "./sdk.js";

/** Signals of OTLP, each exported to a service of its own. */
export type Signal = "traces" | "metrics" | "logs";

/** Where and how one signal is exported. */
export interface OtlpSettings {
  readonly signal: Signal;
  readonly protocol: "grpc" | "http/protobuf";
  /** With a scheme: of gRPC's endpoint, or the full URL for HTTP, path included. */
  readonly url: string;
  /** Whether the connection is encrypted. */
  readonly secure: boolean;
  readonly headers: Readonly<Record<string, string>>;
  /** Most that one try may take. */
  readonly timeoutMs: number;
  readonly compression: "none" | "gzip";
  /** Paths of PEM files: authorities (default: Node's own), and the client's key and certificate. */
  readonly tls: { readonly ca?: string; readonly key?: string; readonly cert?: string };
}

/** Most that one try may take, though OTLP's default is 10 s: one that runs when the process is told to end must fit into the 4 s of a shutdown. */
const maxTimeoutMs = 3000;

const signalNames = { traces: "TRACES", metrics: "METRICS", logs: "LOGS" } as const satisfies Record<Signal, string>;

/**
 * Reads the OTLP exporter's variables; those of the signal win over the general ones. The official exporters read the same variables
 * from `process.env`: what is read here is handed to them, so that a service can be given another environment.
 *
 * @returns undefined where no endpoint is set.
 * @throws TelemetryConfigError when the endpoint, a file or a header cannot be used.
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

/** Values are not shown when a header is rejected, because they can be secrets. */
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
      // The cause is left out: its text holds the value.
      throw new TelemetryConfigError(
        setting?.variable ?? "",
        `has a pair that cannot be sent: ${JSON.stringify(name)}`,
      );
    }
  }
  return pairs;
}

/**
 * `key=value` pairs, separated by commas, percent-encoded, as the SDK reads them.
 *
 * @throws TelemetryConfigError for a pair that the SDK would leave out without a word, such as a key for the collector.
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

/** How spans or log records become batches, as the SDK's batch processors take it. */
export interface BatchSettings {
  readonly maxQueueSize: number;
  readonly maxExportBatchSize: number;
  readonly scheduledDelayMillis: number;
  readonly exportTimeoutMillis: number;
}

/** Milliseconds between two exports by default, from the specification. */
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
