import type { Client } from "@connectrpc/connect";
import { signal as createSignal, type ReadonlySignal, type Signal } from "@preact/signals";
import { type Job, JobPriority, type JobService } from "../../gen/throughline/v1/job_pb.js";
import type { Asked } from "../request/generation.js";
import { shareFragment } from "../request/request-form.js";
import type { StartImage } from "../request/start-image.js";
import type { UserError } from "../request/user-error.js";
import { jobErrorOf } from "./job-error.js";
import { jobRequestOf } from "./job-form.js";

/** Where the last submission is. */
export type SubmissionState =
  | { readonly kind: "idle" }
  | { readonly kind: "sending" }
  | { readonly kind: "sent" }
  | { readonly kind: "failed"; readonly problem: UserError };

/** Submits jobs, one call at a time. */
export interface Submission {
  readonly state: ReadonlySignal<SubmissionState>;
  /** Class of the next jobs. */
  readonly priority: Signal<JobPriority>;
  /** Submits a job; does nothing while another is being submitted. */
  submit(asked: Asked): Promise<void>;
  forget(): void;
  /** Image that a job of this page started from, while it is remembered. */
  startOf(id: string): StartImage | undefined;
}

/** What a submission needs. */
export interface SubmissionOptions {
  readonly client: Client<typeof JobService>;
  /** A new id that nobody else makes. */
  readonly newId: () => string;
  readonly onJob: (job: Job) => void;
}

/** Start images that are remembered, of the newest jobs: each has up to 8 MiB. */
const maxStarts = 8;

/** Creates the submission. A retry of a request that failed keeps its id, so that a call whose answer was lost makes no second job. */
export function createSubmission({ client, newId, onJob }: SubmissionOptions): Submission {
  const state = createSignal<SubmissionState>({ kind: "idle" });
  const priority = createSignal(JobPriority.NORMAL);
  const starts = new Map<string, StartImage>();
  let failed: { readonly key: string; readonly start: StartImage | undefined; readonly requestId: string } | undefined;

  const remember = (id: string, start: StartImage | undefined): void => {
    if (start !== undefined) {
      starts.set(id, start);
      const [oldest] = starts.keys();
      if (starts.size > maxStarts && oldest !== undefined) {
        starts.delete(oldest);
      }
    }
  };

  return {
    state,
    priority,
    async submit({ form, start }) {
      if (state.peek().kind === "sending") {
        return;
      }
      state.value = { kind: "sending" };
      const key = `${priority.peek()} ${shareFragment(form)}`;
      const isRetry = failed?.key === key && failed.start === start;
      const requestId = (isRetry ? failed?.requestId : undefined) ?? newId();
      try {
        const value = jobRequestOf(form, start && new Uint8Array(await start.image.arrayBuffer()));
        const { job } = await client.createJob({
          work: { case: "generate", value },
          requestId,
          priority: priority.peek(),
        });
        if (job === undefined) {
          throw new Error("the service returned no job");
        }
        failed = undefined;
        remember(job.id, start);
        state.value = { kind: "sent" };
        onJob(job);
      } catch (error) {
        failed = { key, start, requestId };
        state.value = { kind: "failed", problem: jobErrorOf(error) };
      }
    },
    forget() {
      if (state.peek().kind !== "sending") {
        state.value = { kind: "idle" };
      }
    },
    startOf: (id) => starts.get(id),
  };
}
