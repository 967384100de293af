import { type Progress, Stage } from "../../gen/throughline/v1/image_pb.js";
import { type Job, JobState } from "../../gen/throughline/v1/job_pb.js";
import { FalError, failedJobError } from "./errors.js";
import { inferenceSeconds } from "./output.js";

/** What a status answer needs of a job: no prompt, and no image. */
export interface PolledJob {
  readonly id: string;
  readonly state: JobState;
  /** Jobs before it in the queue, while it waits. */
  readonly position: number;
  /** Last progress, while it runs. */
  readonly progress: Pick<Progress, "stage" | "step" | "totalSteps"> | undefined;
  /** Seconds of its generation, once it has succeeded. */
  readonly inferenceSeconds: number;
  /** Why it failed, or that it was cancelled. */
  readonly error: FalError | undefined;
  /** When this was read. */
  readonly at: Date;
}

/** Take from a job what status answers need. @param before what was known, for a place in the queue that is not known yet. */
export function polledJobOf(job: Job, before?: PolledJob): PolledJob {
  const { detail } = job;
  const { stage, step, totalSteps } = detail.case === "progress" ? detail.value : noProgress;
  return {
    id: job.id,
    state: job.state,
    position: detail.case === "queued" ? detail.value.position : (before?.position ?? 0),
    progress: detail.case === "progress" ? { stage, step, totalSteps } : undefined,
    inferenceSeconds: detail.case === "result" ? inferenceSeconds([detail.value.timings]) : 0,
    error: failureOf(job),
    at: new Date(),
  };
}

const noProgress = { stage: Stage.UNSPECIFIED, step: 0, totalSteps: 0 };

/** The error of a job that has ended without a result; undefined for others. */
export function failureOf({ state, detail, startTime }: Job): FalError | undefined {
  if (state === JobState.CANCELLED) {
    return new FalError(499, "the request was cancelled", "client_cancelled");
  }
  return detail.case === "error" ? failedJobError(detail.value, startTime !== undefined) : undefined;
}

/** Whether a job has a final state. */
export function isFinal({ state }: Pick<Job, "state">): boolean {
  return state === JobState.SUCCEEDED || state === JobState.FAILED || state === JobState.CANCELLED;
}

/** URLs of a request, which Python's client follows. */
export interface RequestUrls {
  readonly response_url: string;
  readonly status_url: string;
  readonly cancel_url: string;
}

/** @param base origin and prefix, such as `http://127.0.0.1:8080/fal/queue`. */
export function requestUrls(base: string, app: string, id: string): RequestUrls {
  const url = `${base}/${app}/requests/${id}`;
  return { response_url: url, status_url: `${url}/status`, cancel_url: `${url}/cancel` };
}

/** A status answer with its HTTP status. Fields that clients require are there even if they are null. */
export function statusOf(job: PolledJob, urls: RequestUrls, withLogs: boolean): { status: number; body: object } {
  const common = { request_id: job.id, ...urls };
  const logs = withLogs ? logsOf(job) : null;
  switch (job.state) {
    case JobState.QUEUED:
      return { status: 202, body: { status: "IN_QUEUE", queue_position: job.position, ...common } };
    case JobState.RUNNING:
      return { status: 202, body: { status: "IN_PROGRESS", logs, ...common } };
    default: {
      const { error } = job;
      const failure = error && { error: error.message, error_type: error.type ?? "bad_request" };
      const metrics = { inference_time: job.inferenceSeconds };
      return { status: 200, body: { status: "COMPLETED", logs, metrics, ...failure, ...common } };
    }
  }
}

/** The progress as a line of the app's log. */
function logsOf({ progress, at }: PolledJob): readonly object[] {
  if (progress === undefined || progress.stage === Stage.UNSPECIFIED) {
    return [];
  }
  const { stage, step, totalSteps } = progress;
  const message =
    totalSteps > 0 ? `step ${step} of ${totalSteps}` : (Stage[stage] ?? "").toLowerCase().replaceAll("_", " ");
  return [{ message, level: "INFO", source: "USER", timestamp: at.toISOString() }];
}
