import type { Device } from "../../engine/device.js";
import type { Precision } from "../../engine/graph-files.js";
import type { Environment } from "../../trace/telemetry/environment.js";
import { defaultAppId } from "../../worker/default-app-id.js";
import type { CertificateFiles } from "./local-certificate.js";
import { type ServiceOrders, type ServiceProcess, startServiceProcess } from "./service-process.js";

/** A collector, a worker and a pipeline on this machine. */
export interface LocalSystemOptions {
  /** Ports on loopback; 0 takes a free one. */
  readonly ports: { readonly collector: number; readonly worker: number; readonly pipeline: number };
  /** Model folder, or the id of a model in the Hub's cache; undefined for the embedded one. */
  readonly model: string | undefined;
  /** Flags of the worker with the LoRAs of the model. */
  readonly loras: readonly string[];
  readonly device: Device;
  readonly precision: Precision;
  /** CPU threads for the model; 0 for all. */
  readonly threads: number;
  /** Folder for the pipeline's images; undefined for `data:` URIs. */
  readonly images: string | undefined;
  /** Folder or database of the pipeline's jobs; undefined for none. */
  readonly jobs: string | undefined;
  /** Whether the pipeline serves the API of fal's clients, which needs jobs. */
  readonly fal: boolean;
  /** Certificate with which the pipeline serves TLS on its port too; undefined for cleartext only. */
  readonly tls: CertificateFiles | undefined;
  /** File of the pipeline's apps; undefined for the worker alone. */
  readonly apps: string | undefined;
  readonly logLevel: string;
  readonly environment: Environment;
  /** Receives each line of the services' logs. */
  readonly onLog: (line: string) => void;
  readonly interrupt: AbortSignal;
}

/** A running local system, each part in a process of its own. */
export interface LocalSystem {
  readonly collector: ServiceProcess;
  readonly worker: ServiceProcess;
  readonly pipeline: ServiceProcess;
  /** Stops worker and pipeline, which export their last spans, and then the collector. */
  stop(): Promise<void>;
  /** Stops worker and pipeline only: afterwards the collector has every span. */
  stopServices(): Promise<void>;
}

/**
 * Starts the three. Their processes load at the same time; each gets its orders when the services that it needs are ready.
 *
 * @throws CliError when one cannot start; none is then left running.
 */
export async function startLocalSystem(options: LocalSystemOptions): Promise<LocalSystem> {
  const { ports, model, loras, device, precision, threads, images, apps, logLevel, onLog } = options;
  const environment = localEnvironment(options.environment);
  if (!hasResourceAttributes(options.environment)) {
    onLog(`throughline: ${attributesVariable} is ignored: it must be key=value pairs, percent-encoded`);
  }
  const failure = new AbortController();
  const interrupt = AbortSignal.any([options.interrupt, failure.signal]);

  const start = async (command: keyof typeof ports, orders: Promise<ServiceOrders>): Promise<ServiceProcess> => {
    try {
      return await startServiceProcess({ command, environment, orders, onLog, interrupt });
    } catch (error) {
      // The first failure stops the others.
      failure.abort(error);
      throw error;
    }
  };
  const order = (command: keyof typeof ports, flags: readonly string[], collector?: ServiceProcess): ServiceOrders => ({
    flags: ["--host", "127.0.0.1", "--port", String(ports[command]), "--log-level", logLevel, ...flags],
    environment: collector === undefined ? {} : exportTo(collector.url),
  });
  // No flag: all users of the machine see a command line, and a database's URL may have a password.
  const jobsEnvironment = options.jobs === undefined ? {} : { THROUGHLINE_JOBS: options.jobs };

  const collecting = start("collector", Promise.resolve(order("collector", [])));
  const workerFlags = [
    "--grace",
    "0",
    "--threads",
    String(threads),
    "--device",
    device,
    "--precision",
    precision,
    ...(model === undefined ? [] : ["--model", model]),
    ...loras,
  ];
  const working = start(
    "worker",
    collecting.then((collector) => order("worker", workerFlags, collector)),
  );
  const imageFlags = images === undefined ? [] : ["--images", images];
  const piping = start(
    "pipeline",
    Promise.all([collecting, working]).then(([collector, worker]) => {
      const target = `${defaultAppId}=${new URL(worker.url).host}`;
      const appFlags = apps === undefined ? ["--worker", target] : ["--apps", apps];
      const studioFlags = ["--studio", "--studio-collector", collector.url];
      const { fal, tls } = options;
      const falFlags = fal ? ["--fal"] : [];
      const tlsFlags = tls === undefined ? [] : ["--tls-optional", "--tls-cert", tls.cert, "--tls-key", tls.key];
      const pipelineFlags = [
        ...["--show-apps", "--openai", ...falFlags, ...tlsFlags],
        ...appFlags,
        ...imageFlags,
        ...studioFlags,
      ];
      const ordered = order("pipeline", ["--grace", "0", ...pipelineFlags], collector);
      return { ...ordered, environment: { ...ordered.environment, ...jobsEnvironment } };
    }),
  );

  try {
    const [collector, worker, pipeline] = await Promise.all([collecting, working, piping]);
    const stopServices = async (): Promise<void> => {
      await Promise.all([worker.stop(), pipeline.stop()]);
    };
    return {
      collector,
      worker,
      pipeline,
      stopServices,
      async stop() {
        await stopServices();
        await collector.stop();
      },
    };
  } catch (error) {
    const ends = [collecting, working, piping].map(async (starting) => (await starting).stop());
    await Promise.allSettled(ends);
    throw error;
  }
}

/** Variables that could redirect or disable the spans of a local system; attributes of its resource stay. */
const replaced = /^(?:THROUGHLINE_|OTEL_(?!RESOURCE_ATTRIBUTES$)|ENABLE_TRACING$)/;

/**
 * Environment of the services of a local system: the user's own, with tracing on whatever the shell sets. Flags configure the services.
 */
export function localEnvironment(environment: Environment): Environment {
  const delay = environment["OTEL_BSP_SCHEDULE_DELAY"] ?? "";
  return {
    ...Object.fromEntries(Object.entries(environment).filter(([name]) => !replaced.test(name))),
    ...(!hasResourceAttributes(environment) && { [attributesVariable]: "" }),
    ENABLE_TRACING: "true",
    // Only this project's collector supports them.
    THROUGHLINE_RUNNING_SPANS: "true",
    // The collector stores none, and more than one service would open the port for Prometheus.
    OTEL_METRICS_EXPORTER: "none",
    // A person waits for the trace: the specification's 5 s are too long.
    OTEL_BSP_SCHEDULE_DELAY: /^\d{1,6}$/.test(delay) ? delay : "200",
  };
}

const attributesVariable = "OTEL_RESOURCE_ATTRIBUTES";

/** Whether attributes of the shell are `key=value` pairs, percent-encoded: a service does not start with others. */
function hasResourceAttributes(environment: Environment): boolean {
  return (environment[attributesVariable] ?? "").split(",").every((pair) => {
    try {
      return pair.trim() === "" || (pair.indexOf("=") > 0 && decodeURIComponent(pair) !== "");
    } catch {
      return false;
    }
  });
}

/** Variables that export a service's spans to the collector of a local system. */
export function exportTo(collectorUrl: string): Environment {
  return { OTEL_EXPORTER_OTLP_ENDPOINT: collectorUrl, OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" };
}
