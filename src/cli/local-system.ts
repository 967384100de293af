import type { Environment } from "./environment.js";
import { localEnvironment } from "./local-environment.js";
import { type ServiceProcess, startServiceProcess } from "./service-process.js";
import { defaultAppId } from "./worker-settings.js";

/** A collector, a worker and a pipeline on this machine. */
export interface LocalSystemOptions {
  /** Ports on loopback; 0 takes a free one. */
  readonly ports: { readonly collector: number; readonly worker: number; readonly pipeline: number };
  /** Model folder; undefined for the embedded one. */
  readonly model: string | undefined;
  /** CPU threads for the model; 0 for all. */
  readonly threads: number;
  /** Folder for the pipeline's pictures; undefined for `data:` URIs. */
  readonly images: string | undefined;
  readonly logLevel: string;
  readonly environment: Environment;
  readonly interrupt: AbortSignal;
  /** Told what is being started. */
  readonly onPhase: (words: string) => void;
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
 * Starts the three, each when what it needs is there.
 *
 * @throws CommandError when one cannot start; none is then left.
 */
export async function startLocalSystem(options: LocalSystemOptions): Promise<LocalSystem> {
  const { ports, model, threads, images, logLevel, interrupt, onPhase } = options;
  const started: ServiceProcess[] = [];
  const start = async (command: string, port: number, flags: readonly string[], environment: Environment) => {
    onPhase(`starting the ${command}`);
    const service = await startServiceProcess({
      command,
      flags: ["--host", "127.0.0.1", "--port", String(port), "--log-level", logLevel, ...flags],
      environment,
      interrupt,
    });
    started.push(service);
    return service;
  };
  try {
    const collector = await start("collector", ports.collector, [], localEnvironment(options.environment, ""));
    const environment = localEnvironment(options.environment, collector.url);
    const worker = await start(
      "worker",
      ports.worker,
      ["--grace", "0", "--threads", String(threads), ...(model === undefined ? [] : ["--model", model])],
      environment,
    );
    const pipeline = await start(
      "pipeline",
      ports.pipeline,
      [
        ...["--grace", "0", "--worker", `${defaultAppId}=${new URL(worker.url).host}`],
        ...(images === undefined ? [] : ["--images", images]),
      ],
      environment,
    );
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
    await Promise.all(started.map((service) => service.stop()));
    throw error;
  }
}
