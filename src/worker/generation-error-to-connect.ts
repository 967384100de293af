import { Code, ConnectError } from "@connectrpc/connect";
import { GenerationError, type GenerationRequest } from "../engine/engine.js";
import { StoreFullError } from "../image/store-full-error.js";
import {
  deadlineExceeded,
  internal,
  invalidFields,
  queueFull,
  storeFull,
  toClientError,
  unavailable,
  unavailableOnce,
} from "../mesh/errors/errors.js";
import { EvictedError } from "./admission.js";

/** Names of the request's fields in the contract, for the engine's. */
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
};

/**
 * What the client is told when a request could not be generated.
 *
 * @param signal the call's; its reason says whether the client left or the time ran out.
 * @param progress called for how far the request was, such as `denoising, step 11 of 30`.
 */
export function generationErrorToConnect(error: unknown, signal: AbortSignal, progress: () => string): ConnectError {
  if (signal.aborted) {
    const reason = ConnectError.from(signal.reason);
    return reason.code === Code.DeadlineExceeded ? deadlineExceeded(progress(), error) : toClientError(reason, signal);
  }
  if (error instanceof EvictedError) {
    return queueFull(
      "all places of this worker are taken, and this one went to a caller with fewer",
      error.retryAfterMs,
    );
  }
  if (error instanceof StoreFullError) {
    return storeFull(error);
  }
  return error instanceof GenerationError ? rejectionOfGenerationError(error) : toClientError(error, signal);
}

/** What the client is told of the worker's own error. */
export function rejectionOfGenerationError(error: GenerationError): ConnectError {
  switch (error.kind) {
    case "unsupported":
      return error.violations.length === 0
        ? new ConnectError(error.message, Code.InvalidArgument)
        : invalidFields(error.violations.map(({ field, message }) => ({ path: contractFields[field], message })));
    case "lost":
      return error.whileGenerating ? unavailableOnce(error.message, error) : unavailable(error.message, error);
    case "failed":
      return internal(error.message, error);
  }
}
