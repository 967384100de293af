import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Progress } from "../../gen/throughline/v1/image_pb.js";
import type { Job } from "../../gen/throughline/v1/job_pb.js";
import { type GenerateResponse, ImagePipelineService } from "../../gen/throughline/v1/pipeline_pb.js";
import { seedOf } from "../../image/seed.js";
import type { AdmittedCall } from "../../mesh/access/access-control.js";
import type { FrontCall } from "../../mesh/serve/http-front.js";
import { createCallSlots } from "../call-slots.js";
import { FalError, invalidFields, toFalError } from "./errors.js";
import { type FalInput, type GenerateInit, numImagesError, readInput } from "./input.js";
import { outputOf } from "./output.js";
import { failureOf } from "./polled-job.js";
import { progressEvent } from "./progress-event.js";
import { createEventWriter, respondOutput } from "./respond.js";
import { forwardedHeaders, readBody, runJob, startTimeoutSeconds } from "./submit.js";

type OnProgress = (progress: Progress) => Promise<void>;

/** Run a request to its end, and respond with its output. */
export async function run(call: FrontCall, slot: AdmittedCall, app: string, id: string): Promise<void> {
  const input = readInput(app, await readBody(call));
  await respondOutput(call, id, await outputFor(call, slot, input, async () => {}));
}

/**
 * Run a request, and send its progress, then its output, as server-sent events.
 *
 * @throws before the first event. A later failure is an event and a cut connection.
 */
export async function runStreaming(call: FrontCall, slot: AdmittedCall, app: string, id: string): Promise<void> {
  const input = readInput(app, await readBody(call));
  if (input.count > 1) {
    throw invalidFields([numImagesError("a stream has one image; send one request for each")]);
  }
  const events = createEventWriter(call, id);
  try {
    await events.send(await outputFor(call, slot, input, (progress) => events.send(progressEvent(progress))));
    events.end();
  } catch (error) {
    if (!events.isOpen) {
      throw error;
    }
    await events.fail(toFalError(error, call.header));
  }
}

async function outputFor(call: FrontCall, slot: AdmittedCall, input: FalInput, onProgress: OnProgress) {
  const { form, work, count } = input;
  if (work.case === "infer") {
    const job = await runJob(call, slot.caller, input, async ({ detail }: Job) => {
      if (detail.case === "progress") {
        await onProgress(detail.value);
      }
    });
    const failure = failureOf(job);
    if (failure !== undefined || job.detail.case !== "result") {
      throw failure ?? new ConnectError("the job has no result", Code.Internal);
    }
    return outputOf(form, "", [job.detail.value]);
  }
  const request: GenerateInit = work.case === "generate" ? work.value : {};
  const slots = createCallSlots(call, slot, count);
  const seed = seedOf({ seed: request.options?.seed });
  const results = await Promise.all(
    Array.from({ length: count }, (_, index) => {
      const options = { ...request.options, seed: (seed + index) % 2 ** 32 };
      return slots.run((signal) => generate(call, slot, { ...request, options }, signal, onProgress));
    }),
  );
  return outputOf(form, request.prompt ?? "", results);
}

/** Generates an image as `GenerateStream`. */
async function generate(
  call: FrontCall,
  { caller }: AdmittedCall,
  request: GenerateInit,
  signal: AbortSignal,
  onProgress: OnProgress,
): Promise<GenerateResponse> {
  const client = createClient(ImagePipelineService, call.transport(caller));
  const start = createStartTimeout(startTimeoutSeconds(call.header));
  try {
    const options = { ...forwardedHeaders(call), signal: AbortSignal.any([signal, start.signal]) };
    let result: GenerateResponse | undefined;
    for await (const { event } of client.generateStream({ request }, options)) {
      if (event.case === "progress") {
        start.end();
        await onProgress(event.value);
      } else if (event.case === "result") {
        result = event.value;
      }
    }
    if (result === undefined) {
      throw new ConnectError("the pipeline returned no image", Code.Internal);
    }
    return result;
  } catch (error) {
    throw start.signal.aborted ? start.signal.reason : error;
  } finally {
    start.end();
  }
}

/** Aborts a call that has not started in time. */
function createStartTimeout(seconds: number | undefined) {
  const abort = new AbortController();
  const timer =
    seconds === undefined ? undefined : setTimeout(() => abort.abort(startTimeout(seconds)), seconds * 1000);
  return { signal: abort.signal, end: () => clearTimeout(timer) };
}

function startTimeout(seconds: number): FalError {
  return new FalError(504, `the request did not start within ${seconds} s`, "startup_timeout", {
    "x-fal-request-timeout-type": "user",
  });
}
