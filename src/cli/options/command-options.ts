import { defaultStallMs } from "../../engine/child/engine-process.js";
import { defaultMaxWaiting } from "../../worker/admission.js";
import { defaultAppId } from "../../worker/default-app-id.js";
import {
  appsFileOption,
  directoryOptions,
  registerOptions,
  registryOption,
  workerSecurityOptions,
} from "./app-options.js";
import {
  accessOptions,
  collectorOption,
  defaultServerUrl,
  jsonOption,
  lorasOption,
  optionalCollectorOption,
  quietOption,
  requestOptions,
  settingsFromOption,
} from "./client-options.js";
import { devFalOptions, falOptions } from "./fal-options.js";
import { devJobsOption, jobDatabaseOption, jobOptions } from "./job-options.js";
import { kedaOptions } from "./keda-options.js";
import { modelOptions } from "./model-options.js";
import { flag, option } from "./option.js";
import {
  appServerOptions,
  collectorPortOption,
  hostOption,
  imageStoreOptions,
  logFormatOption,
  logLevelOption,
  metricsPortOption,
  pipelineImagesOption,
  pipelinePortOption,
  protectionOptions,
  publicUrlOption,
  studioOptions,
  workerImagesOption,
  workerPortOption,
} from "./server-options.js";
import { appId, decimalNumber, httpUrl, nonEmpty, oneOf, origins, port, wholeNumber, workerTargets } from "./values.js";

/** The options of each command, in the order of its help. */

export const demoOptions = { ...requestOptions, ...modelOptions, json: jsonOption, quiet: quietOption };

const localPorts = {
  pipelinePort: pipelinePortOption("pipeline-"),
  workerPort: workerPortOption("worker-"),
  collectorPort: collectorPortOption("collector-"),
};

export const devOptions = {
  ...localPorts,
  jobs: devJobsOption,
  ...devFalOptions,
  images: pipelineImagesOption("images in the folder of --jobs"),
  apps: appsFileOption,
  ...modelOptions,
  logLevel: logLevelOption("warn"),
  logFormat: logFormatOption,
  json: flag(
    "--json",
    "Print one JSON object a line and nothing else: the URLs of the services, then each request that ended",
  ),
  quiet: flag("--quiet", "Show no requests"),
};

export const workerOptions = {
  app: option("--app <owner/name>", "App id of the worker", {
    env: "THROUGHLINE_APP",
    parse: appId,
    default: defaultAppId,
  }),
  port: workerPortOption(),
  metricsPort: metricsPortOption("THROUGHLINE_WORKER_METRICS_PORT"),
  ...modelOptions,
  maxWaiting: option(
    "--max-waiting <number>",
    "Length of the queue: requests that wait besides the running one; more are rejected",
    {
      env: "THROUGHLINE_MAX_WAITING",
      parse: wholeNumber(0, 100_000),
      default: defaultMaxWaiting,
    },
  ),
  engineMemory: option(
    "--engine-memory <MiB>",
    "Memory in MiB above which the engine's process restarts after an image, and at 1.5 times as much during one; 0 sets no limit",
    { env: "THROUGHLINE_ENGINE_MEMORY", parse: wholeNumber(0, 100_000_000), default: 0 },
  ),
  engineStall: option(
    "--engine-stall <seconds>",
    "Seconds without a new step after which the engine restarts; more for images above 1024×1024, and ten times the longest step so far if that is more",
    { env: "THROUGHLINE_ENGINE_STALL", parse: decimalNumber(1, 86_400), default: defaultStallMs / 1000 },
  ),
  images: workerImagesOption,
  ...imageStoreOptions,
  publicUrl: publicUrlOption("worker"),
  trustTraceparent: flag(
    "--trust-traceparent",
    "Use a caller's traceparent header as the parent of the trace if the request's body has none",
    "THROUGHLINE_WORKER_TRUST_TRACEPARENT",
  ),
  genaiAttributes: flag(
    "--genai-attributes",
    "Add attributes of OpenTelemetry's GenAI conventions to the span inference; never the prompt",
    "THROUGHLINE_GENAI_ATTRIBUTES",
  ),
  imageMetadata: flag(
    "--image-metadata",
    "Write the prompt and the settings into PNG images, so that they can be generated again",
    "THROUGHLINE_IMAGE_METADATA",
  ),
  ...appServerOptions,
  ...registerOptions,
};

export const pipelineOptions = {
  port: pipelinePortOption(),
  metricsPort: metricsPortOption("THROUGHLINE_PIPELINE_METRICS_PORT"),
  ...directoryOptions,
  registerAllow: registryOption,
  showApps: flag(
    "--show-apps",
    "Show callers at /apps the workers of the apps that they may use, with health and addresses",
    "THROUGHLINE_SHOW_APPS",
  ),
  openai: flag("--openai", "Serve OpenAI's images API: /v1/images/generations and /v1/models", "THROUGHLINE_OPENAI"),
  ...falOptions,
  images: pipelineImagesOption(),
  ...imageStoreOptions,
  publicUrl: publicUrlOption("pipeline"),
  trustTraceparent: flag(
    "--trust-traceparent",
    "Make a caller's traceparent header the parent of the request's trace, instead of a link",
    "THROUGHLINE_PIPELINE_TRUST_TRACEPARENT",
  ),
  corsOrigins: option(
    "--cors-origin <origin>",
    "Origin of web pages that may call, or * for any; the flag may be repeated, the variable separates origins by commas",
    { env: "THROUGHLINE_CORS_ORIGINS", parse: origins, repeatable: true, absent: "none" },
  ),
  ...jobOptions,
  ...kedaOptions,
  ...studioOptions,
  ...appServerOptions,
  ...workerSecurityOptions,
};

export const collectorOptions = {
  host: hostOption,
  port: collectorPortOption(),
  ...protectionOptions,
  logLevel: logLevelOption(),
  logFormat: logFormatOption,
};

export const generateOptions = {
  server: option("--server <url>", "Base URL of the pipeline", {
    env: "THROUGHLINE_SERVER",
    parse: httpUrl,
    default: defaultServerUrl,
  }),
  workerApp: option("--worker-app <owner/name>", "App id of the worker that generates the image", {
    env: "THROUGHLINE_WORKER_APP",
    parse: appId,
    absent: "the pipeline's default",
  }),
  ...requestOptions,
  loras: lorasOption,
  settingsFrom: settingsFromOption,
  delivery: option(
    "--delivery <how>",
    "How the image is delivered: url, to be fetched, or inside the response as data-uri or inline (bytes)",
    {
      ...oneOf("url", "data-uri", "inline"),
      absent: "a URL if the pipeline stores images; with --tls-ca inside the response",
    },
  ),
  timeout: option("--timeout <seconds>", "Seconds until the request fails", {
    env: "THROUGHLINE_TIMEOUT",
    parse: decimalNumber(0.001, 86_400),
    absent: "300 without progress, or five times the slowest step",
  }),
  ...accessOptions,
  collector: optionalCollectorOption,
  json: jsonOption,
  quiet: quietOption,
};

const seconds = (maximum: number) => decimalNumber(1, maximum);

export const submitOptions = {
  server: generateOptions.server,
  workerApp: generateOptions.workerApp,
  ...requestOptions,
  loras: lorasOption,
  settingsFrom: settingsFromOption,
  wait: flag("--wait", "Watch the job to its end, and write its image to a file"),
  priority: option("--priority <class>", "Class of the job: low, normal or high", {
    ...oneOf("low", "normal", "high"),
    default: "normal",
  }),
  requestId: option("--request-id <text>", "Id under which the same request makes one job only, up to 128 characters", {
    parse: nonEmpty,
    absent: "a random one",
  }),
  startTimeout: option("--start-timeout <seconds>", "Seconds until the job fails if it has not started", {
    parse: seconds(604_800),
    absent: "none",
  }),
  runTimeout: option("--run-timeout <seconds>", "Seconds until an attempt fails", {
    parse: seconds(3600),
    absent: "3600",
  }),
  resultTtl: option("--result-ttl <seconds>", "Seconds that the job is kept after its end", {
    parse: seconds(604_800),
    absent: "86400",
  }),
  webhook: option("--webhook <url>", "URL that receives the job at its end; its host has to be one of the server's", {
    parse: httpUrl,
    absent: "none",
  }),
  ...accessOptions,
  json: jsonOption,
  quiet: quietOption,
};

/** Options of the commands about one job. */
export const jobCommandOptions = { server: generateOptions.server, ...accessOptions, json: jsonOption };

export const jobWatchOptions = {
  ...jobCommandOptions,
  json: flag(
    "--json",
    "Print each state of the job as one JSON object a line, the last one at its end, and nothing else",
  ),
};

export const jobListOptions = {
  ...jobCommandOptions,
  limit: option("--limit <number>", "Maximum number of jobs, 1 to 1000", { parse: wholeNumber(1, 1000), default: 20 }),
};

/** Options of the commands that open the database themselves. */
export const jobDatabaseOptions = { jobs: jobDatabaseOption };

export const traceOptions = {
  collector: collectorOption,
  verbose: flag("-v, --verbose", "Show the attributes and events of each span too"),
  format: option("--format <name>", "Form of the trace: tree, json (the same as --json) or otlp, an OTLP/JSON export", {
    ...oneOf("tree", "json", "otlp"),
    absent: "tree",
  }),
  ...accessOptions,
  json: jsonOption,
};

export const tracesOptions = {
  collector: collectorOption,
  limit: option("--limit <number>", "Maximum number of traces, 1 to 1000", {
    parse: wholeNumber(1, 1000),
    default: 20,
  }),
  ...accessOptions,
  json: jsonOption,
};

export const appsOptions = {
  pipeline: option("--pipeline <url>", "Base URL of a pipeline with --show-apps: its apps, with metrics of its calls", {
    parse: httpUrl,
    absent: "the workers are asked for their health, and there are no metrics",
  }),
  ...accessOptions,
  ...directoryOptions,
  ...workerSecurityOptions,
  json: jsonOption,
};

export const statusOptions = {
  server: option("--server <url>", "Base URL of a pipeline with --show-apps", {
    env: "THROUGHLINE_SERVER",
    parse: httpUrl,
    default: defaultServerUrl,
  }),
  ...accessOptions,
  json: jsonOption,
};

export const doctorOptions = {
  ...modelOptions,
  ...localPorts,
  images: workerImagesOption,
  hub: flag("--hub", "Check the connection to the Hugging Face Hub too"),
  json: jsonOption,
};

export const configCheckOptions = { json: jsonOption };

export const keysOptions = {
  name: option("--name <name>", "Name of the caller, for its entry in the callers file", {
    parse: nonEmpty,
    default: "caller",
  }),
  json: jsonOption,
};

/** Options of an app of `throughline/run`, which are variables only, with the names of the built-in apps. */
export const appOptions = (defaultPort: number) => ({
  port: option("--port <port>", "Port of the app; 0 takes a free one", {
    env: "THROUGHLINE_PORT",
    parse: port,
    default: defaultPort,
  }),
  metricsPort: metricsPortOption("THROUGHLINE_METRICS_PORT"),
  apps: option(
    "--apps <owner/name=target>",
    "App ids of the apps that it may call and their gRPC targets, separated by commas",
    {
      env: "THROUGHLINE_APPS",
      parse: workerTargets,
      absent: "none",
    },
  ),
  // Its flag would be --apps too.
  appsFile: option("--apps-file <file>", appsFileOption.description, {
    env: "THROUGHLINE_APPS_FILE",
    parse: nonEmpty,
    absent: "none",
  }),
  ...workerSecurityOptions,
  ...appServerOptions,
});
