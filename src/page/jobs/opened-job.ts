import type { Client } from "@connectrpc/connect";
import { computed, signal as createSignal, effect, type ReadonlySignal } from "@preact/signals";
import { type Job, type JobService, JobState } from "../../gen/throughline/v1/job_pb.js";
import type { HistoryEntry } from "../image/history.js";
import type { UserError } from "../request/user-error.js";
import type { JobEntry } from "./job-entry.js";
import { fetchJobImage } from "./job-image.js";
import type { Jobs } from "./jobs.js";

/** The job that was opened: its progress, then its image, stands in the frame. */
export interface OpenedJob {
  /** Undefined for none, and for one that is not in the list any more. */
  readonly entry: ReadonlySignal<JobEntry | undefined>;
  open(id: string): void;
  close(): void;
}

/** What an opened job needs. */
export interface OpenedJobOptions {
  readonly client: Client<typeof JobService>;
  readonly jobs: Jobs;
  readonly fetch: (url: string) => Promise<Response>;
  readonly makeThumbnail: (image: Blob) => Promise<Blob>;
  /** Called with the image, if the job is still opened then. */
  readonly onImage: (entry: HistoryEntry) => void;
}

/** Creates it, with none opened. */
export function createOpenedJob({ client, jobs, fetch, makeThumbnail, onImage }: OpenedJobOptions): OpenedJob {
  const openedId = createSignal("");
  const entry = computed(() => jobs.list.entries.value.find(({ job }) => job.id === openedId.value));
  const isDone = computed(() => entry.value?.job.state === JobState.SUCCEEDED);

  const load = async (job: Job): Promise<void> => {
    const isOpened = () => openedId.peek() === job.id;
    try {
      const start = jobs.submission.startOf(job.id);
      const image = await fetchJobImage(job, { client, fetch, makeThumbnail, start });
      if (isOpened()) {
        onImage(image);
      }
    } catch (error) {
      if (isOpened()) {
        jobs.report(imageProblem(error));
        openedId.value = "";
      }
    }
  };
  effect(() => {
    // Again for another id, and when the job has ended.
    const job = openedId.value !== "" && isDone.value ? entry.peek()?.job : undefined;
    if (job !== undefined) {
      void load(job);
    }
  });

  return {
    entry,
    open(id) {
      openedId.value = "";
      openedId.value = id;
    },
    close() {
      openedId.value = "";
    },
  };
}

function imageProblem(error: unknown): UserError {
  return {
    title: "The image of the job cannot be fetched",
    advice: "It may be deleted, or its address may be another one than that of this page.",
    detail: error instanceof Error ? error.message : "",
    fields: new Map(),
    retryAfterMs: undefined,
    needsKey: false,
    connectionLost: false,
  };
}
