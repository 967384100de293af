import {
  type Environment,
  maxTimerMs,
  readChoice,
  readFilePath,
  readNumber,
  readPairs,
  readSetting,
  refuse,
} from "../environment-reader.js";
import type { CollectorTlsFiles } from "./collector-tls.js";

/** What OTLP carries, each kind to a service of its own. */
export type Signal = "traces" | "metrics" | "logs";

/** Where and how one signal is exported. */
export interface ExporterConfig {
  readonly signal: Signal;
  readonly protocol: "grpc" | "http/protobuf";
  /** For gRPC as it was written, with or without a scheme; for HTTP the full URL, path included. */
  readonly url: string;
  /** Whether the connection is encrypted. */
  readonly secure: boolean;
  readonly headers: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly compression: "none" | "gzip";
  readonly tls: CollectorTlsFiles;
}

/**
 * Most that one export may take, though OTLP's default is 10 s: an export cannot be cancelled, and one that is on its way when the
 * process is told to end must be over within the 4 s that a shutdown has.
 */
const maxTimeoutMs = 3000;

/**
 * Reads the OTLP exporter's variables. Those for the signal win over the general ones.
 *
 * @returns undefined where no endpoint is set.
 * @throws TelemetryConfigError when a variable holds nonsense.
 */
export function readExporterConfig(environment: Environment, signal: Signal): ExporterConfig | undefined {
  const own = signalNames[signal];
  const read = (name: GeneralName) =>
    readSetting(environment, `OTEL_EXPORTER_OTLP_${own}_${name}`, `OTEL_EXPORTER_OTLP_${name}`);
  const endpoint = read("ENDPOINT");
  const protocol = readChoice(read("PROTOCOL"), ["grpc", "http/protobuf"], "grpc");
  const timeoutMs = readNumber(read("TIMEOUT"), { min: 1, max: maxTimerMs, integer: true });
  const shared = {
    signal,
    headers: {
      ...readPairs(readSetting(environment, "OTEL_EXPORTER_OTLP_HEADERS")),
      ...readPairs(readSetting(environment, `OTEL_EXPORTER_OTLP_${own}_HEADERS`)),
    },
    timeoutMs: Math.min(timeoutMs ?? maxTimeoutMs, maxTimeoutMs),
    compression: readChoice(read("COMPRESSION"), ["none", "gzip"], "none"),
    tls: readTls(),
  };
  const insecure = readChoice(lowerCased(read("INSECURE")), ["true", "false"], "false") === "true";
  if (endpoint === undefined) {
    return undefined;
  }

  const { value } = endpoint;
  const url = /^\w+:\/\//.test(value) ? value : `${insecure ? "http" : "https"}://${value}`;
  if (!URL.canParse(url)) {
    return refuse(endpoint, "a URL such as http://localhost:4317");
  }
  const { protocol: scheme, hostname } = new URL(url);
  if (protocol === "grpc") {
    const isUnix = scheme === "unix:";
    if (!isUnix && (!["http:", "https:"].includes(scheme) || hostname === "")) {
      refuse(endpoint, "a URL such as http://localhost:4317, with http, https or unix before ://");
    }
    return { ...shared, protocol, url, secure: isUnix ? !insecure : scheme === "https:" };
  }
  if (!["http:", "https:"].includes(scheme) || url !== value) {
    refuse(endpoint, "a URL such as http://localhost:4318, with http or https before ://");
  }
  const isWhole = endpoint.variable === `OTEL_EXPORTER_OTLP_${own}_ENDPOINT`;
  return {
    ...shared,
    protocol,
    url: isWhole ? url : `${url.replace(/\/$/, "")}/v1/${signal}`,
    secure: scheme === "https:",
  };

  function readTls(): ExporterConfig["tls"] {
    const ca = readFilePath(read("CERTIFICATE"));
    const key = readFilePath(read("CLIENT_KEY"));
    const cert = readFilePath(read("CLIENT_CERTIFICATE"));
    return { ...(ca && { ca }), ...(key && { key }), ...(cert && { cert }) };
  }
}

const signalNames = { traces: "TRACES", metrics: "METRICS", logs: "LOGS" } as const satisfies Record<Signal, string>;

type GeneralName =
  | "ENDPOINT"
  | "PROTOCOL"
  | "TIMEOUT"
  | "COMPRESSION"
  | "INSECURE"
  | "CERTIFICATE"
  | "CLIENT_KEY"
  | "CLIENT_CERTIFICATE";

function lowerCased<T extends { readonly value: string }>(setting: T | undefined): T | undefined {
  return setting && { ...setting, value: setting.value.toLowerCase() };
}
