import type { Device } from "../../engine/device.js";
import type { Precision } from "../../engine/graph-files.js";
import type { Environment } from "../../trace/telemetry/environment.js";
import { defaultAppId } from "../../worker/default-app-id.js";
import { type ServiceProcess, startServiceProcess } from "./service-process.js";
import type { ServiceOrders } from "./supervisor.js";

/** A collector, a worker and a pipeline on this machine. */
export interface LocalSystemOptions {
  /** Ports on loopback; 0 takes a free one. */
  readonly ports: { readonly collector: number; readonly worker: number; readonly pipeline: number };
  /** Model folder, or the id of a model in the Hub's cache; undefined for the embedded one. */
  readonly model: string | undefined;
  readonly device: Device;
  readonly precision: Precision;
  /** CPU threads for the model; 0 for all. */
  readonly threads: number;
  /** Folder for the pipeline's pictures; undefined for `data:` URIs. */
  readonly images: string | undefined;
  /** File of the pipeline's apps; undefined for the worker alone. */
  readonly apps: string | undefined;
  readonly logLevel: string;
  readonly environment: Environment;
  /** Told each line of the services' logs. */
  readonly onLog: (line: string) => void;
  readonly interrupt: AbortSignal;
}

/** A local system that runs, each part in a process of its own. */
export interface LocalSystem {
  readonly collector: ServiceProcess;
  readonly worker: ServiceProcess;
  readonly pipeline: ServiceProcess;
  /** Ends worker and pipeline, which export their last spans, and then the collector. Resolves when all are gone. */
  stop(): Promise<void>;
  /** Ends worker and pipeline only: afterwards the collector has every span. */
  stopServices(): Promise<void>;
}

/**
 * Starts the three. Their processes load at the same time; each is told to begin when what it needs is there.
 *
 * @throws CommandError when one cannot start; none is then left.
 */
export async function startLocalSystem(options: LocalSystemOptions): Promise<LocalSystem> {
  const { ports, model, device, precision, threads, images, apps, logLevel, onLog } = options;
  const environment = localEnvironment(options.environment);
  const failure = new AbortController();
  const interrupt = AbortSignal.any([options.interrupt, failure.signal]);

  const start = async (command: keyof typeof ports, orders: Promise<ServiceOrders>): Promise<ServiceProcess> => {
    try {
      return await startServiceProcess({ command, environment, orders, onLog, interrupt });
    } catch (error) {
      // The first failure ends the others, for its own reason.
      failure.abort(error);
      throw error;
    }
  };
  const order = (command: keyof typeof ports, flags: readonly string[], collector?: ServiceProcess): ServiceOrders => ({
    flags: ["--host", "127.0.0.1", "--port", String(ports[command]), "--log-level", logLevel, ...flags],
    environment: collector === undefined ? {} : exportTo(collector.url),
  });

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
      return order("pipeline", ["--grace", "0", "--show-apps", ...appFlags, ...imageFlags, ...studioFlags], collector);
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

/** What of the user's environment would lead a local system's spans elsewhere, or switch them off. */
const replaced =
  /^(?:THROUGHLINE_|OTEL_EXPORTER_|OTEL_TRACES_|OTEL_METRICS_|OTEL_BSP_|OTEL_SDK_DISABLED$|ENABLE_TRACING$)/;

/**
 * Environment for the services of a local system, which are configured by flags alone: the user's own, but tracing is on, whatever the
 * shell says about it.
 */
export function localEnvironment(environment: Environment): Environment {
  const delay = environment["OTEL_BSP_SCHEDULE_DELAY"];
  return {
    ...Object.fromEntries(Object.entries(environment).filter(([name]) => !replaced.test(name))),
    ENABLE_TRACING: "true",
    // The collector is this project's own, which knows what to make of them.
    THROUGHLINE_RUNNING_SPANS: "true",
    // Its collector keeps none, and a port for Prometheus would be asked for by more than one service.
    OTEL_METRICS_EXPORTER: "none",
    // A person waits for the trace: the 5 s of the specification are too long.
    OTEL_BSP_SCHEDULE_DELAY: delay === undefined || delay === "" ? "200" : delay,
  };
}

/** Variables that lead a service's spans to a local system's own collector. */
export function exportTo(collectorUrl: string): Environment {
  return { OTEL_EXPORTER_OTLP_ENDPOINT: collectorUrl, OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" };
}
