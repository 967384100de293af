import { accessSync, constants } from "node:fs";

/** Environment variables, as `process.env` holds them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Log for problems with telemetry, such as a pino logger. */
export interface TelemetryLog {
  /** Logs one line, with its fields. */
  warn(fields: Readonly<Record<string, unknown>>, message: string): void;
}

/** An environment variable has an invalid value. The message names the variable, the value and the allowed values. */
export class TelemetryConfigError extends Error {
  override readonly name = "TelemetryConfigError";
  readonly variable: string;

  constructor(variable: string, problem: string, options?: ErrorOptions) {
    super(`${variable} ${problem}`, options);
    this.variable = variable;
  }
}

/** Name and value of a variable that is set. */
export interface Setting {
  readonly variable: TelemetryVariable;
  readonly value: string;
}

/**
 * Reads the environment variables of telemetry.
 *
 * An invalid enumeration or number in `OTEL_*` is ignored with a warning, as the specification requires. An invalid value in any other
 * variable throws TelemetryConfigError. The SDK reads `OTEL_*` from `process.env` only, so this reader replaces it.
 */
export interface VariableReader {
  /** The first of these variables that is set, trimmed. An empty value counts as not set. */
  text(...variables: readonly TelemetryVariable[]): Setting | undefined;
  /** One of a list of values, case-insensitive. */
  choice<T extends string>(choices: readonly T[], ...variables: readonly TelemetryVariable[]): T | undefined;
  /** The known values of a comma-separated list; undefined if there is none. */
  choices<T extends string>(known: readonly T[], variable: TelemetryVariable): ReadonlySet<T> | undefined;
  /** A number within bounds, an integer unless `bounds.fraction`. */
  number(bounds: NumberBounds, ...variables: readonly TelemetryVariable[]): number | undefined;
  /** A boolean: true, 1, yes, on, false, 0, no or off. @throws TelemetryConfigError for any other value. */
  truth(variable: TelemetryVariable, absent: boolean): boolean;
  /** The path of a readable file. @throws TelemetryConfigError if the file cannot be read. */
  file(...variables: readonly TelemetryVariable[]): string | undefined;
}

/** Bounds of a number, both inclusive. */
export interface NumberBounds {
  readonly min: number;
  readonly max: number;
  /** Whether fractions are allowed. */
  readonly fraction?: boolean;
}

/** Creates a reader of `environment`. Logs at most one warning per variable. */
export function createVariableReader(environment: Environment, log: TelemetryLog): VariableReader {
  const warned = new Set<string>();
  const ignore = ({ variable, value }: Setting, expected: string): undefined => {
    if (!variable.startsWith("OTEL_")) {
      reject({ variable, value }, expected);
    }
    if (!warned.has(variable)) {
      warned.add(variable);
      log.warn({ variable, value }, `${variable} is ignored: it must be ${expected}`);
    }
  };
  const text: VariableReader["text"] = (...variables) => {
    for (const variable of variables) {
      const value = environment[variable]?.trim() ?? "";
      if (value !== "") {
        return { variable, value };
      }
    }
    return undefined;
  };
  return {
    text,
    choice(choices, ...variables) {
      const setting = text(...variables);
      const found = choices.find((choice) => choice === setting?.value.toLowerCase());
      return found ?? (setting && ignore(setting, `one of ${choices.join(", ")}`));
    },
    choices(known, variable) {
      const setting = text(variable);
      const words = setting?.value.split(",").map((word) => word.trim().toLowerCase()) ?? [];
      const found = known.filter((word) => words.includes(word));
      if (setting !== undefined && found.length < words.length) {
        ignore(setting, `a list of ${known.join(", ")}`);
      }
      return found.length > 0 ? new Set(found) : undefined;
    },
    number({ min, max, fraction = false }, ...variables) {
      const setting = text(...variables);
      const number = Number(setting?.value);
      if (setting === undefined || (number >= min && number <= max && (fraction || Number.isInteger(number)))) {
        return setting && number;
      }
      return ignore(setting, `a ${fraction ? "" : "whole "}number from ${min} to ${max}`);
    },
    truth(variable, absent) {
      const setting = text(variable);
      const word = setting?.value.toLowerCase() ?? "";
      if (setting === undefined || ["true", "1", "yes", "on"].includes(word)) {
        return setting === undefined ? absent : true;
      }
      return ["false", "0", "no", "off"].includes(word) ? false : reject(setting, "true or false");
    },
    file(...variables) {
      const setting = text(...variables);
      if (setting === undefined) {
        return undefined;
      }
      try {
        accessSync(setting.value, constants.R_OK);
        return setting.value;
      } catch (cause) {
        const problem = `is ${JSON.stringify(setting.value)}: the file cannot be read`;
        throw new TelemetryConfigError(setting.variable, problem, { cause });
      }
    },
  };
}

/** Throws TelemetryConfigError with the setting's value. */
export function reject({ variable, value }: Setting, expected: string): never {
  // A URL may have a password.
  const shown = value.replace(/\/\/[^/\s]*@/g, "//…@");
  throw new TelemetryConfigError(variable, `is ${JSON.stringify(shown)}, and must be ${expected}`);
}

/** Whether `OTEL_SDK_DISABLED` is `true`. As specified, any other value leaves the SDK enabled. */
export function isSdkDisabled(reader: VariableReader): boolean {
  return reader.text("OTEL_SDK_DISABLED")?.value.toLowerCase() === "true";
}

/**
 * Environment variables of traces, metrics and log export, with their descriptions.
 *
 * `OTEL_*` variables follow the OpenTelemetry specification, except OTEL_SAMPLE_RATE. An empty value counts as not set. An invalid value
 * of an `OTEL_*` enumeration or number is ignored with a warning.
 *
 * @see https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
 * @see https://opentelemetry.io/docs/specs/otel/protocol/exporter/
 */
export const telemetryVariables = {
  ENABLE_TRACING: "`false`, `0`, `no` or `off` switches tracing off; default `true`",
  THROUGHLINE_STAGE_SPANS:
    "`true` adds a span for each stage of a generation: `text-encoding`, `vae-encode`, `denoising`, `vae-decode`, `image-encode`; default `false`",
  THROUGHLINE_RUNNING_SPANS:
    "`true` exports running spans too, non-standard: only `throughline collector` supports it; default `false`",
  OTEL_SDK_DISABLED: "`true` switches tracing, metrics and the export of logs off; default `false`",
  OTEL_TRACES_EXPORTER: "`otlp`, or `none` to export nothing; default `otlp`",
  OTEL_METRICS_EXPORTER:
    "`otlp`, `prometheus`, `otlp,prometheus` or `none`; default `otlp`, and `none` where tracing is off",
  OTEL_LOGS_EXPORTER: "`otlp` exports log lines too; default `none`",
  OTEL_EXPORTER_OTLP_ENDPOINT:
    "URL of the collector; if not set, spans are created but not exported, and no metrics are exported by OTLP",
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "the same for traces only; with HTTP the full URL, `/v1/traces` is not appended",
  OTEL_EXPORTER_OTLP_METRICS_ENDPOINT:
    "the same for metrics only; with HTTP the full URL, `/v1/metrics` is not appended",
  OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: "the same for logs only; with HTTP the full URL, `/v1/logs` is not appended",
  OTEL_EXPORTER_OTLP_PROTOCOL: "`grpc` or `http/protobuf`; default `grpc`",
  OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "the same for traces only",
  OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: "the same for metrics only",
  OTEL_EXPORTER_OTLP_LOGS_PROTOCOL: "the same for logs only",
  OTEL_EXPORTER_OTLP_HEADERS: "headers of an export, `key=value,key=value`, percent-encoded",
  OTEL_EXPORTER_OTLP_TRACES_HEADERS: "additional headers for traces; they take precedence",
  OTEL_EXPORTER_OTLP_METRICS_HEADERS: "additional headers for metrics; they take precedence",
  OTEL_EXPORTER_OTLP_LOGS_HEADERS: "additional headers for logs; they take precedence",
  OTEL_EXPORTER_OTLP_TIMEOUT:
    "timeout of one export attempt in milliseconds; default and maximum 3000, so that a shutdown takes at most 4 s",
  OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: "the same for traces only",
  OTEL_EXPORTER_OTLP_METRICS_TIMEOUT: "the same for metrics only",
  OTEL_EXPORTER_OTLP_LOGS_TIMEOUT: "the same for logs only",
  OTEL_EXPORTER_OTLP_COMPRESSION: "`none` or `gzip`; default `none`",
  OTEL_EXPORTER_OTLP_TRACES_COMPRESSION: "the same for traces only",
  OTEL_EXPORTER_OTLP_METRICS_COMPRESSION: "the same for metrics only",
  OTEL_EXPORTER_OTLP_LOGS_COMPRESSION: "the same for logs only",
  OTEL_EXPORTER_OTLP_INSECURE: "gRPC to an endpoint without a scheme: `true` means no TLS; default `false`",
  OTEL_EXPORTER_OTLP_TRACES_INSECURE: "the same for traces only",
  OTEL_EXPORTER_OTLP_METRICS_INSECURE: "the same for metrics only",
  OTEL_EXPORTER_OTLP_LOGS_INSECURE: "the same for logs only",
  OTEL_EXPORTER_OTLP_CERTIFICATE: "file with the trusted CA certificates, PEM",
  OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE: "the same for traces only",
  OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE: "the same for metrics only",
  OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE: "the same for logs only",
  OTEL_EXPORTER_OTLP_CLIENT_KEY: "file with the client's private key, PEM",
  OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY: "the same for traces only",
  OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY: "the same for metrics only",
  OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY: "the same for logs only",
  OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: "file with the client's certificate chain, PEM",
  OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE: "the same for traces only",
  OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE: "the same for metrics only",
  OTEL_EXPORTER_OTLP_LOGS_CLIENT_CERTIFICATE: "the same for logs only",
  OTEL_TRACES_SAMPLER:
    "`always_on`, `always_off`, `traceidratio`, or one of them with the prefix `parentbased_`; default `parentbased_always_on`",
  OTEL_TRACES_SAMPLER_ARG: "share of traces for the `traceidratio` samplers, 0 to 1; default 1",
  OTEL_SAMPLE_RATE:
    "short for `parentbased_traceidratio` with this share of traces, 0 to 1; `OTEL_TRACES_SAMPLER` takes precedence",
  OTEL_BSP_SCHEDULE_DELAY: "milliseconds between two exports; default 5000",
  OTEL_BSP_EXPORT_TIMEOUT:
    "timeout of one export attempt in milliseconds; the lower of this and `OTEL_EXPORTER_OTLP_TIMEOUT` applies; default 30000",
  OTEL_BSP_MAX_QUEUE_SIZE: "maximum spans waiting for a batch, more are dropped; default 2048",
  OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "maximum spans in one export; default 512",
  THROUGHLINE_RETRY_QUEUE_SPANS:
    "maximum spans in the retry queue, the oldest are dropped first; default 32768, at least a batch",
  THROUGHLINE_RETRY_QUEUE_BYTES: "the same in bytes of encoded spans; default 67108864, at least 65536",
  OTEL_METRIC_EXPORT_INTERVAL: "milliseconds between two exports of metrics; default 60000",
  OTEL_METRIC_EXPORT_TIMEOUT: "as `OTEL_BSP_EXPORT_TIMEOUT`, for metrics; default 30000",
  OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE:
    "`cumulative`, `delta` or `lowmemory`: whether metrics count since the start or since the last export; default `cumulative`",
  OTEL_EXPORTER_PROMETHEUS_HOST: "with `prometheus`: host of the endpoint; default: the app's host",
  OTEL_EXPORTER_PROMETHEUS_PORT:
    "with `prometheus`: port of the endpoint; default 9464, `--metrics-port` takes precedence",
  OTEL_BLRP_SCHEDULE_DELAY: "milliseconds between two exports of logs; default 1000",
  OTEL_BLRP_EXPORT_TIMEOUT: "as `OTEL_BSP_EXPORT_TIMEOUT`, for logs; default 30000",
  OTEL_BLRP_MAX_QUEUE_SIZE: "maximum log lines waiting for a batch, more are dropped; default 2048",
  OTEL_BLRP_MAX_EXPORT_BATCH_SIZE: "maximum log lines in one export; default 512",
  OTEL_RESOURCE_ATTRIBUTES:
    "attributes of the resource, `key=value,key=value`, percent-encoded; `service.name` is the app's",
} as const;

/** Name of an environment variable of traces, metrics or log export. */
export type TelemetryVariable = keyof typeof telemetryVariables;
