import type { Context } from "@opentelemetry/api";
import type { RunningEvent } from "../app/event-stream.js";
import type { Progress, Queued } from "../gen/throughline/v1/image_pb.js";
import type { GenerateRequest, GenerateResponse } from "../gen/throughline/v1/pipeline_pb.js";
import type { InferRequest, InferResponse } from "../gen/throughline/v1/worker_pb.js";

/* What the pipeline offers to services beside its own on the same port, such as jobs, which are handed it and do not import the pipeline. */

/** Event of a running request. */
export type GenerateEvent = RunningEvent<Queued, Progress>;

/** A request that no connection waits for, such as that of a job. */
export interface DetachedCall {
  /** Aborting it stops the worker before its next step. */
  readonly signal: AbortSignal;
  /** Time limit, in milliseconds. */
  readonly timeoutMs: number;
  /** Fairness key of the caller. */
  readonly caller: string;
}

/** The pipeline's functions, for services beside its own on the same port. */
export interface PipelineCalls {
  /** Returns the app id that a request selects; empty selects the default. @throws ConnectError NOT_FOUND */
  resolveApp(workerApp: string): string;
  /**
   * Runs a request as `Generate`, with the image in `image.data`. Permissions are not checked.
   *
   * @param call.context context whose span is `image-pipeline`.
   * @throws ConnectError
   */
  generate(
    request: GenerateRequest,
    call: DetachedCall & { readonly context: Context },
    emit: (event: GenerateEvent) => void,
  ): Promise<GenerateResponse>;
  /**
   * Sends a request to a worker as it is, without a span of the pipeline and with the request's own carrier. The image is in `image.data`.
   *
   * @throws ConnectError
   */
  infer(
    workerApp: string,
    request: InferRequest,
    call: DetachedCall,
    emit: (event: GenerateEvent) => void,
  ): Promise<InferResponse>;
  /** Counts the workers of an app that serve; none for an app that the directory does not have. */
  workersOf(appId: string): Promise<WorkerCount>;
  /** Calls back with the app id whenever one of its workers becomes healthy. */
  onServing(listener: (appId: string) => void): void;
}

/** Workers of an app. */
export interface WorkerCount {
  readonly serving: number;
  /** Average service time of a call, in milliseconds; undefined before the first one. */
  readonly serviceMs: number | undefined;
}
