import { Code, ConnectError } from "@connectrpc/connect";
import { GenerationError, type GenerationRequest } from "../engine/engine.js";
import { InputImageError } from "../image/decode-image.js";
import { ImageStoreError } from "../image/image-store-error.js";
import {
  deadlineExceeded,
  internal,
  invalidField,
  invalidFields,
  queueFull,
  storeFailure,
  toClientError,
  unavailable,
  unavailableOnce,
} from "../mesh/errors/errors.js";
import { AdmissionError, type AdmissionRejection } from "./admission.js";

/**
 * Map an error of admission, engine or image store to the error for the client. The worker makes all its status codes here.
 *
 * An aborted call gets the reason of its signal (deadline, client disconnected, shutdown).
 *
 * @param signal of the call.
 * @param progress returns the last known stage, for the deadline's message, such as `denoising, step 11 of 30`.
 */
export function toConnectError(error: unknown, signal: AbortSignal, progress: () => string): ConnectError {
  if (signal.aborted) {
    const reason = ConnectError.from(signal.reason);
    return reason.code === Code.DeadlineExceeded ? deadlineExceeded(progress(), error) : toClientError(reason, signal);
  }
  if (error instanceof AdmissionError) {
    return fromRejection(error.rejection);
  }
  if (error instanceof GenerationError) {
    return fromGenerationError(error);
  }
  if (error instanceof InputImageError) {
    return invalidField(contractFields.initImage, error.message);
  }
  return error instanceof ImageStoreError ? storeFailure(error.reason, error) : toClientError(error, signal);
}

function fromRejection(rejection: AdmissionRejection): ConnectError {
  switch (rejection.kind) {
    case "full":
      return queueFull("all slots of this worker are taken", rejection.retryAfterMs);
    case "evicted":
      return queueFull(
        "all slots of this worker are taken, and this one went to a caller with fewer",
        rejection.retryAfterMs,
      );
    case "deadline-miss":
      return fromDeadlineMiss(rejection);
    case "paused":
      return unavailable("the worker is not ready: its engine is restarting");
  }
}

/**
 * DEADLINE_EXCEEDED if the generation alone takes too long, so that no retry helps. RESOURCE_EXHAUSTED if the queue is too long: another
 * worker may be in time, or this one after the delay in RetryInfo.
 */
function fromDeadlineMiss(miss: Extract<AdmissionRejection, { readonly kind: "deadline-miss" }>): ConnectError {
  const { evenWithoutQueue, waitMs, generationMs, remainingMs, queuedMs } = miss;
  const generation = `generation is estimated at ${seconds(generationMs)}`;
  const remaining = `${seconds(remainingMs)} are left`;
  if (evenWithoutQueue) {
    const queued = queuedMs === undefined ? "" : `queued for ${seconds(queuedMs)}, `;
    return deadlineExceeded(`${queued}${generation}, and ${remaining}`);
  }
  const message = `the queue is too long for this call's deadline: the wait is estimated at ${seconds(waitMs)}, ${generation}, and ${remaining}`;
  return queueFull(message, waitMs + generationMs - remainingMs);
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** Contract fields of the engine's request fields. */
const contractFields: Record<keyof GenerationRequest, string> = {
  prompt: "prompt",
  negativePrompt: "options.negative_prompt",
  width: "options.width",
  height: "options.height",
  steps: "options.num_inference_steps",
  guidanceScale: "options.guidance_scale",
  seed: "options.seed",
  scheduler: "options.scheduler",
  previewInterval: "options.preview_interval",
  clipSkip: "options.clip_skip",
  guidanceRescale: "options.guidance_rescale",
  loras: "options.loras",
  initImage: "options.init_image",
  strength: "options.strength",
};

function fromGenerationError(error: GenerationError): ConnectError {
  switch (error.kind) {
    case "unsupported":
      return error.violations.length === 0
        ? new ConnectError(error.message, Code.InvalidArgument)
        : invalidFields(
            error.violations.map(({ field, place = "", message }) => ({
              path: contractFields[field] + place,
              message,
            })),
          );
    case "lost":
      return error.whileGenerating ? unavailableOnce(error.message, error) : unavailable(error.message, error);
    case "failed":
      return internal(error.message, error);
  }
}
