import { setTimeout as delay } from "node:timers/promises";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import type { Progress as GenerationProgress } from "../../gen/throughline/v1/image_pb.js";
import type { Job, JobService } from "../../gen/throughline/v1/job_pb.js";
import { CliError } from "../errors.js";
import { type Progress, showQueued, showStage } from "../terminal/progress.js";
import { describeCallFailure } from "./studio-client.js";

/** Options of {@link watchToEnd}. */
export interface WatchOptions {
  readonly server: string;
  readonly progress: Progress;
  readonly interrupt: AbortSignal;
  /** Gets each preview. */
  readonly onPreview?: (progress: GenerationProgress) => void;
  /** Gets the job as it is at first, and after each change. */
  readonly onState?: (job: Job) => void;
}

/** Between two attempts to reach a server that was lost, in milliseconds. */
const againMs = 2_000;

/** Watches a job to its end, also over restarts of the pipeline: the job outlives them. */
export async function watchToEnd(
  client: Client<typeof JobService>,
  job: Job,
  { server, progress, interrupt, onPreview, onState }: WatchOptions,
): Promise<Job> {
  let last = job;
  for (;;) {
    try {
      for await (const update of client.watchJob({ id: job.id }, { signal: interrupt })) {
        last = update.job ?? last;
        show(last, progress);
        onState?.(last);
        if (last.detail.case === "progress" && last.detail.value.preview.length > 0) {
          onPreview?.(last.detail.value);
        }
      }
      return last;
    } catch (error) {
      interrupt.throwIfAborted();
      if (!isLost(error)) {
        throw new CliError(describeCallFailure(server, error, "pipeline"), { cause: error });
      }
      progress.phase(`waiting for ${server}, which keeps the job`);
      await delay(againMs, undefined, { signal: interrupt }).catch(() => interrupt.throwIfAborted());
    }
  }
}

function isLost(error: unknown): boolean {
  const { code, cause } = ConnectError.from(error);
  return code === Code.Unavailable || code === Code.Aborted || (cause instanceof Error && "code" in cause);
}

function show({ detail }: Job, progress: Progress): void {
  if (detail.case === "queued") {
    showQueued(progress, detail.value);
  } else if (detail.case === "progress") {
    showStage(progress, detail.value);
  }
}
