import { Code, ConnectError } from "@connectrpc/connect";
import type { Image, Timings } from "../../gen/throughline/v1/image_pb.js";
import type { Job } from "../../gen/throughline/v1/job_pb.js";
import type { GenerateResponse } from "../../gen/throughline/v1/pipeline_pb.js";
import type { FalForm } from "./input.js";

/** Convert results to the output of an app. There is more than one in the form `images` only. */
export function outputOf(form: FalForm, prompt: string, results: readonly GenerateResponse[]): object {
  const [first] = results;
  if (first === undefined) {
    throw noImage();
  }
  switch (form) {
    case "worker":
      return { image: imageOf(first.image) };
    case "pipeline":
      return { image: imageOf(first.image), trace_id: first.traceId };
    case "images":
      return {
        images: results.map(({ image }) => imageOf(image)),
        timings: { inference: inferenceSeconds(results.map(({ timings }) => timings)) },
        seed: first.seed,
        // No result is checked.
        has_nsfw_concepts: results.map(() => false),
        prompt,
      };
  }
}

/** Form of a job that was created with {@link FalForm}. @param isPipeline whether its app's path is that of the pipeline. */
export function formOfJob({ work }: Pick<Job, "work">, isPipeline: boolean): FalForm {
  return work.case === "infer" ? "worker" : isPipeline ? "pipeline" : "images";
}

/** Prompt of a job. */
export function promptOf({ work }: Pick<Job, "work">): string {
  return (work.case === "infer" ? work.value.request?.prompt : work.value?.prompt) ?? "";
}

/** Seconds from the start of a generation to its end; 0 if the worker did not send them. */
export function inferenceSeconds(timings: readonly (Timings | undefined)[]): number {
  return timings.reduce((sum, each) => sum + (each === undefined ? 0 : (each.totalMs - each.queueMs) / 1000), 0);
}

/** An image as fal's apps return one. The same fields as in the original. */
function imageOf(image: Image | undefined): object {
  if (image === undefined || image.url === "") {
    throw noImage();
  }
  const { url, contentType, fileName, fileSize, width, height } = image;
  return {
    url,
    content_type: contentType,
    file_name: fileName,
    file_size: fileSize,
    // 0 from a worker that did not send it.
    ...(width > 0 && { width, height }),
  };
}

function noImage(): ConnectError {
  return new ConnectError("the pipeline returned no image", Code.Internal);
}
