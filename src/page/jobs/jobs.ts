import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { computed, signal as createSignal, effect, type ReadonlySignal, type Signal } from "@preact/signals";
import { type Job, type JobService, JobState } from "../../gen/throughline/v1/job_pb.js";
import type { UserError } from "../request/user-error.js";
import type { Connection } from "../service/connection.js";
import type { JobEntry } from "./job-entry.js";
import { jobErrorOf } from "./job-error.js";
import { askOf } from "./job-form.js";
import { createJobList, type JobList } from "./job-list.js";
import { createSubmission, type Submission } from "./submission.js";

/** The caller's durable jobs. */
export interface Jobs {
  /** Whether the pipeline has jobs; false until that is known. */
  readonly areOffered: ReadonlySignal<boolean>;
  readonly list: JobList;
  readonly submission: Submission;
  /** Whether the panel is open. */
  readonly isOpen: Signal<boolean>;
  /** Ids of jobs that a call is under way for. */
  readonly busy: ReadonlySignal<ReadonlySet<string>>;
  /** Why the last action on a job failed. */
  readonly problem: ReadonlySignal<UserError | undefined>;
  /** How the last job ended, for screen readers. */
  readonly announcement: ReadonlySignal<string>;
  /** Tells whether the page is in sight: jobs are followed while it is, and the panel is open. */
  setPageSeen(seen: boolean): void;
  cancel(id: string): Promise<void>;
  /** Deletes a job with its prompt and its image. */
  remove(id: string): Promise<void>;
  report(problem: UserError | undefined): void;
}

/** What the jobs need. */
export interface JobsOptions {
  readonly client: Client<typeof JobService>;
  readonly connection: Pick<Connection, "offer">;
  /** Whether the panel is open at first. */
  readonly isOpen: boolean;
  readonly maxWatched: number;
  readonly now: () => number;
  readonly random: () => number;
  readonly newId: () => string;
  /** Called after each change of a job's state or attempt. */
  readonly onChange: (entry: JobEntry) => void;
  readonly onRemoved: (id: string) => void;
}

/** Creates the jobs. Until the panel is opened or a job submitted, it makes no call that would open the pipeline's database. */
export function createJobs(options: JobsOptions): Jobs {
  const { client, connection, now, random } = options;
  const areOffered = computed(() => connection.offer.value?.hasJobs === true);
  const isOpen = createSignal(options.isOpen);
  const isPageSeen = createSignal(false);
  const busy = createSignal<ReadonlySet<string>>(new Set());
  const problem = createSignal<UserError | undefined>(undefined);
  const announcement = createSignal("");

  const list = createJobList({
    client,
    maxWatched: options.maxWatched,
    now,
    random,
    onChange(entry) {
      announcement.value = endOf(entry.job) || announcement.peek();
      options.onChange(entry);
    },
  });
  const submission = createSubmission({
    client,
    newId: options.newId,
    onJob(job) {
      list.put(job);
      isOpen.value = true;
    },
  });

  // Each time that the service has been reached: it may be another version by then.
  effect(() => {
    if (connection.offer.value !== undefined) {
      list.retry();
    }
  });
  const isSeen = computed(() => areOffered.value && isOpen.value && isPageSeen.value);
  effect(() => list.setSeen(isSeen.value));

  const act = async (id: string, call: () => Promise<Job | undefined>): Promise<void> => {
    if (busy.peek().has(id)) {
      return;
    }
    busy.value = new Set(busy.peek()).add(id);
    problem.value = undefined;
    try {
      const job = await call();
      if (job !== undefined) {
        list.put(job);
      }
    } catch (error) {
      if (ConnectError.from(error).code === Code.NotFound) {
        list.drop(id);
      } else {
        problem.value = jobErrorOf(error);
      }
    } finally {
      busy.value = new Set([...busy.peek()].filter((other) => other !== id));
    }
  };

  return {
    areOffered,
    list,
    submission,
    isOpen,
    busy,
    problem,
    announcement,
    setPageSeen(seen) {
      isPageSeen.value = seen;
    },
    cancel: (id) => act(id, async () => (await client.cancelJob({ id })).job),
    remove: (id) =>
      act(id, async () => {
        await client.deleteJob({ id });
        list.drop(id);
        options.onRemoved(id);
        announcement.value = "The job is deleted";
        return undefined;
      }),
    report(next) {
      problem.value = next;
    },
  };
}

const ends: ReadonlyMap<JobState, string> = new Map([
  [JobState.SUCCEEDED, "Job done"],
  [JobState.FAILED, "Job failed"],
  [JobState.CANCELLED, "Job cancelled"],
]);

/** Text for screen readers; empty for a job that goes on. */
function endOf(job: Job): string {
  const end = ends.get(job.state);
  return end === undefined ? "" : `${end}: ${askOf(job).form.prompt}`;
}
