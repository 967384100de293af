import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import {
  CancelJobResponseSchema,
  CreateJobResponseSchema,
  DeleteJobResponseSchema,
  GetJobResponseSchema,
  type JobService,
  JobState,
  type ListJobsRequest,
  ListJobsResponseSchema,
  WatchJobResponseSchema,
} from "../gen/throughline/v1/job_pb.js";
import { callerOf, checkMayUse, fairnessKeyOf } from "../mesh/access/callers.js";
import { createConnectError, internal, invalidField, notFound, unavailable } from "../mesh/errors/errors.js";
import { type CreateJobContext, createJob } from "./create-job.js";
import { type JobMessages, type JobView, snapshotOf } from "./job-message.js";
import type { StoredJob } from "./job-rows.js";
import type { JobQuery, PagePosition } from "./job-store.js";
import type { JobSnapshot, JobWatch } from "./job-watch.js";
import { PayloadError } from "./payload-cipher.js";

/** Dependencies of {@link createJobService}. */
export interface JobServiceOptions extends CreateJobContext {
  readonly watch: JobWatch;
  readonly messages: JobMessages;
  /** Stops a job if it runs in this process. */
  readonly stopJob: (id: string) => void;
  /** Whether callers without a name may list jobs: on loopback, where they are all one. */
  readonly listsAnonymous: boolean;
  /** Public base URL of the pipeline. @default the origin of the call's URL */
  readonly publicUrl: string | undefined;
  /** Aborted when the pipeline drains, which ends the watches. */
  readonly ending: AbortSignal;
}

const defaultPageSize = 100;

/** Implementation of JobService. */
export type JobServiceImplementation = Required<ServiceImpl<typeof JobService>>;

/** Creates the implementation of JobService. */
export function createJobService(options: JobServiceOptions): JobServiceImplementation {
  const { store, files, watch, messages, stopJob, ending } = options;

  const viewOf = (call: HandlerContext, withImages: boolean): JobView => ({
    baseUrl: options.publicUrl ?? new URL(call.url).origin,
    withImages,
  });

  /** Finds a job of the caller. */
  const find = async (id: string, call: HandlerContext): Promise<StoredJob> => {
    const job = await store.read(id);
    return ownJob(job, call);
  };

  const placed = async (job: StoredJob): Promise<JobSnapshot> => {
    const place = job.state === JobState.QUEUED ? await store.place(job.id) : undefined;
    return { ...snapshotOf(job), place };
  };

  return {
    createJob: (request, call) =>
      answer(async () => {
        const { job, place } = await createJob(
          request,
          {
            owner: ownerOf(call),
            caller: fairnessKeyOf(call, { trustHeader: false }),
            header: call.requestHeader,
            checkMayUse: (appId) => checkMayUse(callerOf(call), appId),
          },
          options,
        );
        const snapshot = place === undefined ? await placed(job) : { ...snapshotOf(job), place };
        return create(CreateJobResponseSchema, { job: await messages.toMessage(snapshot, viewOf(call, false)) });
      }),

    getJob: ({ id }, call) =>
      answer(async () => {
        const job = await find(id, call);
        return create(GetJobResponseSchema, {
          job: await messages.toMessage(await placed(job), viewOf(call, true)),
        });
      }),

    listJobs: (request, call) =>
      answer(async () => {
        const page = await store.list(checkList(request, call, options));
        const places = await store.positions(page.jobs.map(({ id }) => id));
        const view = viewOf(call, false);
        const jobs = await Promise.all(
          page.jobs.map((job) => messages.toListed({ ...snapshotOf(job), place: places.get(job.id) }, view)),
        );
        return create(ListJobsResponseSchema, { jobs, nextPageToken: pageTokenOf(page.next) });
      }),

    async *watchJob({ id }, call) {
      const view = viewOf(call, true);
      const signal = AbortSignal.any([call.signal, ending]);
      const snapshots = watch.watch(id, (job) => ownJob(job, call), signal);
      try {
        for (;;) {
          const next = await answer(() => snapshots.next());
          if (next.done) {
            break;
          }
          yield create(WatchJobResponseSchema, { job: await answer(() => messages.toMessage(next.value, view)) });
        }
      } finally {
        await snapshots.return(undefined);
      }
      if (ending.aborted && !call.signal.aborted) {
        throw unavailable("the pipeline is shutting down; watch the job again for the rest");
      }
    },

    cancelJob: ({ id }, call) =>
      answer(async () => {
        await find(id, call);
        const job = ownJob(await store.cancel(id), call);
        stopJob(id);
        return create(CancelJobResponseSchema, {
          job: await messages.toMessage(snapshotOf(job), viewOf(call, false)),
        });
      }),

    deleteJob: ({ id }, call) =>
      answer(async () => {
        await find(id, call);
        // First: without its row, nobody could delete them again.
        await files.delete(id).catch((error: unknown) => {
          throw unavailable(
            "the job's image cannot be deleted at the moment, so the job is kept: delete it again",
            error,
          );
        });
        await store.delete(id);
        stopJob(id);
        // What an attempt has stored meanwhile. A file that is left is of no job, and is swept.
        await files.delete(id).catch(() => {});
        return create(DeleteJobResponseSchema);
      }),
  };
}

/** @throws ConnectError if the caller may not list jobs, or a field is wrong. */
export function checkList(
  { pageSize, pageToken, states, workerApp }: ListJobsRequest,
  call: HandlerContext,
  { listsAnonymous }: Pick<JobServiceOptions, "listsAnonymous">,
): JobQuery {
  if (callerOf(call).name === undefined && !listsAnonymous) {
    throw createConnectError({
      code: Code.PermissionDenied,
      message: "jobs can be listed by named callers only: the operator has to set --callers",
    });
  }
  if (workerApp.includes("\0")) {
    throw invalidField("worker_app", "an app id");
  }
  return {
    owner: ownerOf(call),
    limit: pageSize === 0 ? defaultPageSize : pageSize,
    states,
    app: workerApp,
    after: readPageToken(pageToken),
  };
}

/** Without access control, all callers are one. */
function ownerOf(call: HandlerContext): string {
  return callerOf(call).name ?? "";
}

/** @throws ConnectError NOT_FOUND also for jobs of others, whose existence is not to be told. */
function ownJob(job: StoredJob | undefined, call: HandlerContext): StoredJob {
  if (job === undefined || job.owner !== ownerOf(call)) {
    throw noSuchJob();
  }
  return job;
}

export function noSuchJob(): ConnectError {
  return notFound("no such job of this caller: it was deleted or has expired, or the id is wrong");
}

/** Runs a call. Errors of the database become UNAVAILABLE: their texts may contain anything, so they are for the log. */
async function answer<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof PayloadError) {
      throw internal("the stored job cannot be read: it was changed, or its key is gone; delete it", error);
    }
    throw error instanceof ConnectError ? error : unavailable("the jobs are not available at the moment", error);
  }
}

function pageTokenOf(position: PagePosition | undefined): string {
  return position === undefined
    ? ""
    : Buffer.from(JSON.stringify([position.createTime, position.id])).toString("base64url");
}

function readPageToken(token: string): PagePosition | undefined {
  if (token === "") {
    return undefined;
  }
  const [, createTime, id] =
    /^\["(\d{1,16})","([0-9a-f]{32})"\]$/.exec(Buffer.from(token, "base64url").toString()) ?? [];
  if (createTime === undefined || id === undefined) {
    throw invalidField(
      "page_token",
      "not a token of this service; use `next_page_token` of the page before, or leave it out",
    );
  }
  return { createTime, id };
}
