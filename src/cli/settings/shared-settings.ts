import { defaultGraceMs } from "../../app/lifecycle.js";
import { precisions } from "../../engine/graph-files.js";
import { defaultMaxAgeMs, defaultMaxBytes } from "../../image/directory-store.js";
import { optionalSetting, setting } from "./setting.js";
import { decimalNumber, device, host, httpUrl, oneOf, port, text, truth, wholeNumber } from "./setting-schemas.js";

/** Settings that more than one command has. What must differ between the services has a variable of its own for each. */

export const hostSetting = setting({
  flag: "host",
  argument: "host",
  variable: "THROUGHLINE_HOST",
  schema: host,
  default: "127.0.0.1",
  help: "Address to listen on; 0.0.0.0 for all",
});

export const workerPortSetting = {
  argument: "port",
  variable: "THROUGHLINE_WORKER_PORT",
  schema: port,
  default: "50052",
  help: "Port of the worker; 0 takes a free one",
} as const;

export const pipelinePortSetting = {
  argument: "port",
  variable: "THROUGHLINE_PIPELINE_PORT",
  schema: port,
  default: "8080",
  help: "Port of the pipeline; 0 takes a free one",
} as const;

export const collectorPortSetting = {
  argument: "port",
  variable: "THROUGHLINE_COLLECTOR_PORT",
  schema: port,
  default: "4317",
  help: "Port of the collector, for OTLP over gRPC and over HTTP; 0 takes a free one",
} as const;

/** Base URL of a pipeline on this machine, where nothing else is said. */
export const defaultServerUrl = "http://127.0.0.1:8080";

export const defaultCollectorUrl = "http://127.0.0.1:4317";

export const collectorUrlSetting = {
  flag: "collector",
  argument: "url",
  variable: "THROUGHLINE_COLLECTOR",
  schema: httpUrl,
} as const;

export const metricsPortSetting = {
  flag: "metrics-port",
  argument: "port",
  schema: port,
  absent: "none",
  help: "Port at which Prometheus finds metrics, at /metrics; 0 takes a free one, which the log names",
} as const;

export const modelSetting = optionalSetting({
  flag: "model",
  argument: "folder or owner/name",
  variable: "THROUGHLINE_MODEL",
  schema: text,
  absent: "the model in the package",
  help: "Folder of an SDXL model (safetensors or ONNX), a .safetensors checkpoint, or a model of the Hugging Face Hub: owner/name, @revision after it for one of its revisions, :file.safetensors for one of its files",
});

export const threadsSetting = setting({
  flag: "threads",
  argument: "number",
  variable: "THROUGHLINE_THREADS",
  schema: wholeNumber(0, 1024),
  default: "0",
  help: "CPU threads that the model runs on; 0 takes one for each core",
});

export const deviceSetting = setting({
  flag: "device",
  argument: "device",
  variable: "THROUGHLINE_DEVICE",
  schema: device,
  default: "auto",
  help: "Where the model runs: cpu, cuda, tensorrt, webgpu, coreml or dml, with :1 after cuda, tensorrt or dml for the second device; auto takes the first of cuda, dml, coreml, webgpu and cpu that can",
});

export const precisionSetting = setting({
  flag: "precision",
  argument: "precision",
  variable: "THROUGHLINE_PRECISION",
  schema: oneOf(precisions),
  default: "auto",
  help: "What the model runs in: float32 keeps its weights in memory, float16 keeps half-precision weights in their files; auto takes half precision on a GPU, and on a CPU what suits the model and the memory. Of exported graphs, float16 takes model_fp16.onnx",
});

export const graceSetting = setting({
  flag: "grace",
  argument: "seconds",
  variable: "THROUGHLINE_GRACE",
  schema: decimalNumber(0, 86_400),
  default: String(defaultGraceMs / 1000),
  help: "Seconds that running calls have to finish after SIGTERM",
});

export const logLevelSetting = setting({
  flag: "log-level",
  argument: "level",
  variable: "THROUGHLINE_LOG_LEVEL",
  schema: oneOf(["trace", "debug", "info", "warn", "error", "fatal", "silent"]),
  default: "info",
  help: "Least level of the log, which is JSON lines on stderr: trace, debug, info, warn, error, fatal or silent",
});

export const workerImagesSetting = optionalSetting({
  flag: "images",
  argument: "folder",
  variable: "THROUGHLINE_WORKER_IMAGES",
  schema: text,
  absent: "data: URIs",
  help: "Folder in which the worker keeps pictures, to be fetched by URL; one process owns it",
});

export const imageMaxBytesSetting = setting({
  flag: "image-max-bytes",
  argument: "bytes",
  variable: "THROUGHLINE_IMAGE_MAX_BYTES",
  schema: wholeNumber(1, Number.MAX_SAFE_INTEGER),
  default: String(defaultMaxBytes),
  help: "Bytes of all stored pictures together; the one that was asked for least recently goes first",
});

export const imageMaxAgeSetting = setting({
  flag: "image-max-age",
  argument: "seconds",
  variable: "THROUGHLINE_IMAGE_MAX_AGE",
  schema: wholeNumber(1, 86_400 * 24),
  default: String(defaultMaxAgeMs / 1000),
  help: "Seconds that a stored picture is kept",
});

export const jsonSetting = setting({
  flag: "json",
  schema: truth,
  default: "false",
  help: "Print one JSON object and nothing else",
});

export const quietSetting = setting({
  flag: "quiet",
  schema: truth,
  default: "false",
  help: "Show neither progress nor a picture on the terminal",
});
