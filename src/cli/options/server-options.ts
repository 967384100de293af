import { defaultGraceMs } from "../../app/lifecycle.js";
import { defaultMaxAgeMs, defaultMaxBytes } from "../../image/directory-store.js";
import { defaultListenLimits } from "../../mesh/port/listen-limits.js";
import { logFormats } from "../terminal/log-format.js";
import { flag, option } from "./option.js";
import { decimalNumber, host, httpUrl, nonEmpty, oneOf, port, s3Url, traceUrl, wholeNumber } from "./values.js";

/** Options of a server: address, authentication, images, log. A variable that differs between services names its service. */

export const hostOption = option("--host <host>", "Address to listen on; 0.0.0.0 for all", {
  env: "THROUGHLINE_HOST",
  parse: host,
  default: "127.0.0.1",
});

export const logLevelOption = (level: "info" | "warn" = "info") =>
  option(
    "--log-level <level>",
    "Minimum log level: trace, debug, info, warn, error, fatal or silent. Logs are lines on stderr",
    {
      env: "THROUGHLINE_LOG_LEVEL",
      ...oneOf("trace", "debug", "info", "warn", "error", "fatal", "silent"),
      default: level,
    },
  );

export const logFormatOption = option(
  "--log-format <format>",
  "Form of the log lines: json, or pretty for people, in colors on a terminal",
  { env: "THROUGHLINE_LOG_FORMAT", ...oneOf(...logFormats), default: "json" },
);

/** Ports of the services; `prefix` is `pipeline-` where a command has the ports of several. */
export const pipelinePortOption = (prefix = "") =>
  option(`--${prefix}port <port>`, "Port of the pipeline; 0 takes a free one", {
    env: "THROUGHLINE_PIPELINE_PORT",
    parse: port,
    default: 8080,
  });

export const workerPortOption = (prefix = "") =>
  option(`--${prefix}port <port>`, "Port of the worker; 0 takes a free one", {
    env: "THROUGHLINE_WORKER_PORT",
    parse: port,
    default: 50_052,
  });

export const collectorPortOption = (prefix = "") =>
  option(`--${prefix}port <port>`, "Port of the collector, for OTLP over gRPC and over HTTP; 0 takes a free one", {
    env: "THROUGHLINE_COLLECTOR_PORT",
    parse: port,
    default: 4317,
  });

/** Who may call a server, and how its connections are encrypted. */
export const protectionOptions = {
  tlsCert: option("--tls-cert <file>", "The server's certificate chain, PEM; reloaded when the file changes", {
    env: "THROUGHLINE_TLS_CERT",
    parse: nonEmpty,
    absent: "no TLS",
  }),
  tlsKey: option("--tls-key <file>", "Private key of the server's certificate, PEM", {
    env: "THROUGHLINE_TLS_KEY",
    parse: nonEmpty,
    absent: "no TLS",
  }),
  tlsOptional: flag(
    "--tls-optional",
    "Accept cleartext on the same port too, on loopback only: clients that speak https only work beside those that do not",
    "THROUGHLINE_TLS_OPTIONAL",
  ),
  tlsClientCa: option(
    "--tls-client-ca <file>",
    "Certificate authorities of client certificates, PEM; without --callers every client needs a certificate, and any of theirs is accepted",
    { env: "THROUGHLINE_TLS_CLIENT_CA", parse: nonEmpty, absent: "no client certificates" },
  ),
  callers: option(
    "--callers <file>",
    "Callers with their keys and rate limits, YAML or JSON as in SECURITY.md; reloaded when the file changes",
    { env: "THROUGHLINE_CALLERS", parse: nonEmpty, absent: "anonymous clients may call" },
  ),
  insecureOpen: flag(
    "--insecure-open",
    "Allow anonymous clients at an address that is not loopback",
    "THROUGHLINE_INSECURE_OPEN",
  ),
};

/** Options of an app besides its port. */
export const appServerOptions = {
  host: hostOption,
  ...protectionOptions,
  reflection: option("--reflection <whom>", "Who may use server reflection: callers, open (everybody) or off", {
    env: "THROUGHLINE_REFLECTION",
    ...oneOf("callers", "open", "off"),
    default: "callers",
  }),
  ignoreUnknownFields: flag(
    "--ignore-unknown-fields",
    "Ignore JSON fields that the contract does not have, instead of INVALID_ARGUMENT",
    "THROUGHLINE_IGNORE_UNKNOWN_FIELDS",
  ),
  grace: option("--grace <seconds>", "Seconds that running calls have to finish after SIGTERM", {
    env: "THROUGHLINE_GRACE",
    parse: decimalNumber(0, 86_400),
    default: defaultGraceMs / 1000,
  }),
  http1Keepalive: option(
    "--http1-keepalive <seconds>",
    "Seconds that an idle HTTP/1.1 connection stays open; longer than the idle time of the proxy in front",
    {
      env: "THROUGHLINE_HTTP1_KEEPALIVE",
      parse: wholeNumber(1, 86_400),
      default: defaultListenLimits.keepAliveTimeoutMs / 1000,
    },
  ),
  logLevel: logLevelOption(),
  logFormat: logFormatOption,
};

export const metricsPortOption = (env: string) =>
  option(
    "--metrics-port <port>",
    "Port of the Prometheus metrics, at /metrics; 0 takes a free one, which the log names",
    {
      env,
      parse: port,
      absent: "none",
    },
  );

const imagesHelp = (service: string) =>
  `Folder in which the ${service} stores images, to be fetched by URL; processes may share it`;

export const pipelineImagesOption = (absent = "data: URIs") =>
  option("--images <folder>", imagesHelp("pipeline"), { env: "THROUGHLINE_PIPELINE_IMAGES", parse: nonEmpty, absent });

export const workerImagesOption = option("--images <folder>", imagesHelp("worker"), {
  env: "THROUGHLINE_WORKER_IMAGES",
  parse: nonEmpty,
  absent: "data: URIs",
});

/** Image store of a service besides its folder. */
export const imageStoreOptions = {
  imageStore: option(
    "--image-store <url>",
    "Bucket in which images are stored instead of a folder: s3://bucket or s3://bucket/prefix",
    { env: "THROUGHLINE_IMAGE_STORE", parse: s3Url, absent: "the folder of --images" },
  ),
  s3Endpoint: option("--s3-endpoint <url>", "Base URL of an S3 store that is not AWS", {
    env: "THROUGHLINE_S3_ENDPOINT",
    parse: httpUrl,
    absent: "AWS, in the region of AWS_REGION",
  }),
  s3PublicEndpoint: option(
    "--s3-public-endpoint <url>",
    "Base URL under which readers of images reach the S3 store, if it is another one",
    { env: "THROUGHLINE_S3_PUBLIC_ENDPOINT", parse: httpUrl, absent: "--s3-endpoint" },
  ),
  s3ForcePathStyle: flag(
    "--s3-force-path-style",
    "Send the bucket's name in the path and not in the host name, as most S3 stores other than AWS need",
    "THROUGHLINE_S3_FORCE_PATH_STYLE",
  ),
  urlTtl: option(
    "--url-ttl <seconds>",
    "Seconds that the signed URL of an image in a bucket is valid, at most 7 days",
    {
      env: "THROUGHLINE_URL_TTL",
      parse: wholeNumber(1, 604_800),
      default: 3600,
    },
  ),
  imageMaxBytes: option(
    "--image-max-bytes <bytes>",
    "Bytes of the images in the folder of --images that the process knows; the least recently used is removed first",
    {
      env: "THROUGHLINE_IMAGE_MAX_BYTES",
      parse: wholeNumber(1, Number.MAX_SAFE_INTEGER),
      default: defaultMaxBytes,
    },
  ),
  imageMaxAge: option(
    "--image-max-age <seconds>",
    "Seconds that an image is stored; of a bucket, its lifecycle rule decides",
    {
      env: "THROUGHLINE_IMAGE_MAX_AGE",
      parse: wholeNumber(1, 86_400 * 24),
      default: defaultMaxAgeMs / 1000,
    },
  ),
};

export const publicUrlOption = (service: "worker" | "pipeline") =>
  option("--public-url <url>", `Base URL under which callers reach the ${service}'s images`, {
    env: `THROUGHLINE_${service.toUpperCase()}_PUBLIC_URL`,
    parse: httpUrl,
    absent: "the URL that the call used",
  });

/** Options of the studio that a pipeline serves. */
export const studioOptions = {
  studio: flag("--studio", "Serve the studio: its page at / to everybody, its data to callers", "THROUGHLINE_STUDIO"),
  studioCollector: option(
    "--studio-collector <url>",
    "Base URL of the throughline collector from which the studio reads traces and the service graph",
    { env: "THROUGHLINE_STUDIO_COLLECTOR", parse: httpUrl, absent: "the studio has no traces" },
  ),
  traceUrl: option(
    "--trace-url <template>",
    "URL of a trace in another backend that the studio links to, with {traceId} in the place of the id",
    { env: "THROUGHLINE_TRACE_URL", parse: traceUrl, absent: "no link" },
  ),
  traceBackend: option("--trace-backend <name>", "Name of that backend, such as Jaeger", {
    env: "THROUGHLINE_TRACE_BACKEND",
    parse: nonEmpty,
    absent: "the host in --trace-url",
  }),
};
