import { type Client, Code, ConnectError } from "@connectrpc/connect";
import type { Job, JobService } from "../../gen/throughline/v1/job_pb.js";
import { backOffMs } from "../service/connection.js";
import { createPauses } from "../service/pauses.js";

/** Streams of single jobs. */
export interface JobWatches {
  /** Watches these jobs and no others. */
  follow(ids: readonly string[]): void;
  /** Whether a job's own stream is open and has reported its state. */
  isLive(id: string): boolean;
}

/** What the watches need. */
export interface JobWatchesOptions {
  readonly client: Client<typeof JobService>;
  /** 0 to 1, for the pauses between tries. */
  readonly random: () => number;
  readonly onJob: (job: Job) => void;
  /** Called if the service does not know the job, or not any more. */
  readonly onGone: (id: string) => void;
}

/** Watches jobs to their ends. The first message is the whole state, so after each failure a new stream goes on. */
export function createJobWatches({ client, random, onJob, onGone }: JobWatchesOptions): JobWatches {
  const watching = new Map<string, AbortController>();
  const live = new Set<string>();

  const watch = async (id: string, signal: AbortSignal): Promise<void> => {
    const pauses = createPauses();
    let failures = 0;
    let isOver = false;
    while (!isOver && !signal.aborted) {
      try {
        for await (const { job } of client.watchJob({ id }, { signal })) {
          if (job !== undefined && !signal.aborted) {
            failures = 0;
            live.add(id);
            onJob(job);
          }
        }
        // The stream ends by itself after the final state.
        isOver = true;
      } catch (error) {
        if (!signal.aborted) {
          live.delete(id);
          if (ConnectError.from(error).code === Code.NotFound) {
            isOver = true;
            onGone(id);
          } else {
            failures++;
            await pauses.wait(backOffMs(failures, random()), signal);
          }
        }
      }
    }
  };

  const start = (id: string): void => {
    const ending = new AbortController();
    watching.set(id, ending);
    void watch(id, ending.signal).finally(() => {
      if (watching.get(id) === ending) {
        stop(id);
      }
    });
  };
  const stop = (id: string): void => {
    watching.get(id)?.abort();
    watching.delete(id);
    live.delete(id);
  };

  return {
    follow(ids) {
      for (const id of watching.keys()) {
        if (!ids.includes(id)) {
          stop(id);
        }
      }
      for (const id of ids) {
        if (!watching.has(id)) {
          start(id);
        }
      }
    },
    isLive: (id) => live.has(id),
  };
}
