import type { Context } from "@opentelemetry/api";
import type { RunningEvent } from "../app/event-stream.js";
import type { Progress, Queued } from "../gen/throughline/v1/image_pb.js";
import type { GenerateRequest, GenerateResponse } from "../gen/throughline/v1/pipeline_pb.js";
import type { InferRequest, InferResponse } from "../gen/throughline/v1/worker_pb.js";

/** Event of a running request. */
export type JobEvent = RunningEvent<Queued, Progress>;

/** Properties of a request that no connection waits for. */
export interface DetachedCall {
  /** Aborting it stops the worker before its next step. */
  readonly signal: AbortSignal;
  /** Time limit, in milliseconds. */
  readonly timeoutMs: number;
  /** Fairness key of the caller. */
  readonly caller: string;
}

/** What jobs need of the pipeline. */
export interface JobPipeline {
  /** Returns the app id that a request selects; empty selects the default. @throws ConnectError NOT_FOUND */
  resolveApp(workerApp: string): string;
  /**
   * Runs a request as `Generate`. The image is in `image.data`.
   *
   * @param call.context context whose span is `image-pipeline`.
   * @throws ConnectError
   */
  generate(
    request: GenerateRequest,
    call: DetachedCall & { readonly context: Context },
    emit: (event: JobEvent) => void,
  ): Promise<GenerateResponse>;
  /**
   * Sends a request to a worker as it is, without a span of its own. The image is in `image.data`.
   *
   * @throws ConnectError
   */
  infer(
    workerApp: string,
    request: InferRequest,
    call: DetachedCall,
    emit: (event: JobEvent) => void,
  ): Promise<InferResponse>;
  /** Reports the workers of an app that serve, and their average service time in milliseconds. */
  workersOf(appId: string): Promise<WorkerCount>;
  /** Calls back with the app id whenever one of its workers becomes healthy. */
  onServing(listener: (appId: string) => void): void;
}

/** Workers of an app. */
export interface WorkerCount {
  readonly serving: number;
  /** Undefined before the first served call. */
  readonly serviceMs: number | undefined;
}
