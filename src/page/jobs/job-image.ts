import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Client } from "@connectrpc/connect";
import type { Image } from "../../contracts/contracts.js";
import type { Job, JobService } from "../../gen/throughline/v1/job_pb.js";
import { bytesOfDataUri, type HistoryEntry } from "../image/history.js";
import type { StartImage } from "../request/start-image.js";
import { askOf } from "./job-form.js";

/** What the image of a job needs. */
export interface JobImageOptions {
  readonly client: Client<typeof JobService>;
  readonly fetch: (url: string) => Promise<Response>;
  readonly makeThumbnail: (image: Blob) => Promise<Blob>;
  /** Image that the job started from, if it is still known. */
  readonly start: StartImage | undefined;
}

/** Fetches the image of a job that has one. @throws Error that says why it cannot be had. */
export async function fetchJobImage(job: Job, options: JobImageOptions): Promise<HistoryEntry> {
  const { detail } = await withImage(job, options.client);
  const { image, ...result } = detail.case === "result" ? detail.value : { image: undefined };
  if (image === undefined || !("seed" in result)) {
    throw new Error("the job has no image");
  }
  const blob =
    image.data.length > 0
      ? new Blob([new Uint8Array(image.data)], { type: image.contentType })
      : await fetchBlob(imageUrlOf(job, image), options.fetch);
  const { seed, model, executionProvider, truncatedTokens } = result;
  return {
    id: job.id,
    generatedAtMs: msOf(job.endTime),
    form: { ...askOf(job).form, seed: String(seed) },
    start: options.start,
    seed,
    model,
    executionProvider,
    traceId: job.traceId || result.traceId,
    elapsedMs: runMs(job),
    truncatedTokens,
    width: image.width,
    height: image.height,
    contentType: blob.type || image.contentType,
    image: blob,
    thumbnail: await options.makeThumbnail(blob).catch(() => blob),
  };
}

/** URL of a job's image for this page: what the pipeline serves under its public URL, it serves under the page's own origin too. */
export function imageUrlOf({ id }: Job, { url, fileName }: Image): string {
  const path = `/images/jobs/${id}/${fileName}`;
  return url.endsWith(path) ? path : url;
}

/** Milliseconds that the last attempt took. */
export function runMs({ startTime, endTime }: Job): number {
  return Math.max(0, msOf(endTime) - msOf(startTime));
}

/** A list has no image bytes: a job whose delivery puts them into the message has none there. */
async function withImage(job: Job, client: Client<typeof JobService>): Promise<Job> {
  const image = job.detail.case === "result" ? job.detail.value.image : undefined;
  const hasImage = image !== undefined && (image.url !== "" || image.data.length > 0);
  return hasImage ? job : ((await client.getJob({ id: job.id })).job ?? job);
}

async function fetchBlob(url: string, fetch: JobImageOptions["fetch"]): Promise<Blob> {
  const inUrl = bytesOfDataUri(url);
  if (inUrl !== undefined) {
    return new Blob([inUrl.bytes], { type: inUrl.contentType });
  }
  const response = await fetch(url);
  if (!response.ok) {
    throw new Error(`its server answers ${response.status}`);
  }
  return response.blob();
}

function msOf(time: Job["endTime"]): number {
  return time === undefined ? 0 : timestampMs(time);
}
