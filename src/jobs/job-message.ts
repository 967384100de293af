import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { WorkerCount } from "../calls/pipeline-calls.js";
import { Delivery, ImageSchema, ProgressSchema, QueuedSchema } from "../gen/throughline/v1/image_pb.js";
import { type Job, JobSchema, JobState } from "../gen/throughline/v1/job_pb.js";
import { type GenerateResponse, GenerateResponseSchema } from "../gen/throughline/v1/pipeline_pb.js";
import { contentTypeOf, formatOfFileName, toDataUri } from "../image/image-format.js";
import type { JobFiles } from "./job-files.js";
import { type JobPayloads, type JobWork, optionsOf } from "./job-payloads.js";
import type { StoredJob } from "./job-rows.js";
import type { JobSnapshot } from "./job-watch.js";
import { PayloadError } from "./payload-cipher.js";

/** Dependencies of {@link createJobMessages}. */
export interface JobMessagesOptions {
  readonly payloads: JobPayloads;
  readonly files: JobFiles;
  readonly workersOf: (appId: string) => Promise<WorkerCount>;
}

/** How a job is shown. */
export interface JobView {
  /** Base URL under which the caller reaches the pipeline. */
  readonly baseUrl: string;
  /** Whether images are put into the message where the job's delivery asks for it. */
  readonly withImages: boolean;
}

/** Converts stored jobs to the contract's messages. */
export interface JobMessages {
  /** @throws PayloadError if no key fits. */
  toMessage(snapshot: JobSnapshot, view: JobView): Promise<Job>;
  /** Of a job whose payloads cannot be read, all but those: one damaged row must not hide the others. */
  toListed(snapshot: JobSnapshot, view: JobView): Promise<Job>;
}

export function createJobMessages({ payloads, files, workersOf }: JobMessagesOptions): JobMessages {
  const detailOf = async (
    { job, place, progress }: JobSnapshot,
    work: JobWork,
    view: JobView,
  ): Promise<Job["detail"]> => {
    const { id, outcome } = job;
    switch (job.state) {
      case JobState.QUEUED: {
        if (place === undefined) {
          return { case: undefined };
        }
        const { serving } = await workersOf(job.app);
        const noWorker = serving === 0;
        const estimatedWaitMs = noWorker ? 0 : Math.round((place.secondsAhead * 1000) / serving);
        return { case: "queued", value: create(QueuedSchema, { position: place.ahead, estimatedWaitMs, noWorker }) };
      }
      case JobState.RUNNING:
        return { case: "progress", value: create(ProgressSchema, progress ?? job.progress) };
      case JobState.SUCCEEDED:
        return outcome === undefined
          ? { case: undefined }
          : { case: "result", value: await deliver(id, payloads.openResult(id, outcome), deliveryOf(work), view) };
      case JobState.FAILED:
        return outcome === undefined ? { case: undefined } : { case: "error", value: payloads.openError(id, outcome) };
      default:
        return { case: undefined };
    }
  };

  const deliver = async (
    id: string,
    result: GenerateResponse,
    delivery: Delivery,
    { baseUrl, withImages }: JobView,
  ): Promise<GenerateResponse> => {
    const { image } = result;
    const format = image && formatOfFileName(image.fileName);
    if (image === undefined || format === undefined) {
      return result;
    }
    const isInMessage = delivery === Delivery.INLINE || delivery === Delivery.DATA_URI;
    if (!isInMessage) {
      const url = await files.urlOf(id, image.fileName, baseUrl);
      return create(GenerateResponseSchema, { ...result, image: { ...image, url } });
    }
    const bytes = withImages ? await files.get(id, image.fileName) : undefined;
    if (bytes === undefined) {
      return result;
    }
    const { width, height } = image;
    const encoded = { bytes, format, width, height };
    const shown = delivery === Delivery.INLINE ? { data: bytes } : { url: toDataUri(encoded) };
    const delivered = create(ImageSchema, { ...image, contentType: contentTypeOf(format), ...shown });
    return create(GenerateResponseSchema, { ...result, image: delivered });
  };

  const toMessage = async (snapshot: JobSnapshot, view: JobView): Promise<Job> => {
    const work = payloads.openWork(snapshot.job.id, snapshot.job.work);
    const detail = await detailOf(snapshot, work, view);
    return create(JobSchema, { ...headOf(snapshot.job), detail, work: withoutInitImage(work) });
  };

  return {
    toMessage,
    async toListed(snapshot, view) {
      try {
        return await toMessage(snapshot, view);
      } catch (error) {
        if (error instanceof PayloadError) {
          return create(JobSchema, headOf(snapshot.job));
        }
        throw error;
      }
    },
  };
}

/** What is stored in the clear. */
function headOf(job: StoredJob): MessageInitShape<typeof JobSchema> {
  const timestamp = (date: Date | undefined) => date && timestampFromDate(date);
  return {
    id: job.id,
    state: job.state,
    workerApp: job.app,
    priority: job.priority,
    createTime: timestamp(job.createTime),
    startTime: timestamp(job.startTime),
    endTime: timestamp(job.endTime),
    expireTime: timestamp(job.expireTime),
    attempt: job.attempt,
    traceId: job.traceId,
  };
}

/** The opened work belongs to this call alone. */
function withoutInitImage(work: JobWork): JobWork {
  const options = optionsOf(work);
  if (options !== undefined) {
    delete options.initImage;
  }
  return work;
}

function deliveryOf(work: JobWork): Delivery {
  return optionsOf(work)?.delivery ?? Delivery.UNSPECIFIED;
}

/** A job as its row tells it. */
export function snapshotOf(job: StoredJob): JobSnapshot {
  return { job, place: undefined, progress: undefined };
}
