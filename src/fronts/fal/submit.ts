import type { MessageInitShape } from "@bufbuild/protobuf";
import { type CallOptions, createClient } from "@connectrpc/connect";
import { type CreateJobRequestSchema, type Job, JobPriority, JobService } from "../../gen/throughline/v1/job_pb.js";
import type { Caller } from "../../mesh/access/callers.js";
import { internal } from "../../mesh/errors/errors.js";
import type { FrontCall } from "../../mesh/serve/http-front.js";
import { maxImageRequestBytes } from "../../request-limits.js";
import { FalError, invalidFields } from "./errors.js";
import { requestIdHeaderOf } from "./field-locations.js";
import { type FalInput, numImagesError, readInput } from "./input.js";
import type { JobsClient } from "./job-polls.js";
import { type LostAnswers, printOf } from "./lost-answers.js";
import { requestUrls } from "./polled-job.js";
import { respond } from "./respond.js";

/** Client of the jobs for an admitted caller. */
export function jobsClient(call: FrontCall, caller: Caller): JobsClient {
  return createClient(JobService, call.transport(caller));
}

/** Trace headers of a request, for the calls that it makes. */
export function forwardedHeaders({ header }: FrontCall): CallOptions {
  const headers = new Headers();
  for (const name of ["traceparent", "tracestate", "baggage"]) {
    const value = header.get(name);
    if (value !== null) {
      headers.set(name, value);
    }
  }
  return { headers };
}

/**
 * Read the body of a request.
 *
 * @throws FalError 415 for a content type that a page of any origin may send without a preflight, 413 for a body above the limit.
 */
export function readBody(call: FrontCall): Promise<Uint8Array> {
  if (!/^application\/json\s*(;|$)/i.test(call.header.get("content-type") ?? "")) {
    const message = "send the input as JSON, with the header content-type: application/json";
    throw new FalError(415, message, "bad_request");
  }
  return call.readBody(maxImageRequestBytes);
}

/** Where a submission goes. */
export interface Submission {
  readonly app: string;
  readonly query: URLSearchParams;
  /** Start of the URLs in the answer. */
  readonly base: string;
}

/** Create a job for a request to the queue, and respond with its URLs. */
export async function submit(
  call: FrontCall,
  caller: Caller,
  { app, query, base }: Submission,
  lost: LostAnswers,
): Promise<void> {
  const body = await readBody(call);
  const input = readInput(app, body);
  if (input.count > 1) {
    const reason = "the queue makes one image for each request; submit once for each image, or use the run endpoint";
    throw invalidFields([numImagesError(reason)]);
  }
  const webhookUrl = query.get("fal_webhook") ?? "";
  const settings = jobSettings(call.header);
  const jobs = jobsClient(call, caller);
  const print = printOf([
    caller.name ?? caller.countKey,
    app,
    webhookUrl,
    String(settings.priority),
    settings.requestId,
    call.header.get("x-fal-request-timeout") ?? "",
    body,
  ]);
  const create = async (): Promise<Job> => {
    // Without the signal of the call: a job whose client has left is found again by the client's retry.
    const { job } = await jobs.createJob({ work: input.work, webhookUrl, ...settings }, forwardedHeaders(call));
    return job ?? raise();
  };
  const read = async (known: Promise<string>): Promise<Job> => {
    const { job } = await jobs.getJob({ id: await known });
    return job ?? raise();
  };
  const before = lost.take(print);
  // Of a job that was deleted meanwhile, there is another.
  const created = before === undefined ? create() : read(before).catch(create);
  lost.watch(
    print,
    call.response,
    created.then(({ id }) => id),
  );
  const { id, detail } = await created;
  const position = detail.case === "queued" ? detail.value.position : 0;
  respond(call, id, 200, {
    status: "IN_QUEUE",
    queue_position: position,
    request_id: id,
    ...requestUrls(base, app, id),
  });
}

/** Settings of a job in the headers of fal's clients. */
export function jobSettings(header: Headers) {
  const priority = header.get("x-fal-queue-priority")?.toLowerCase() === "low" ? JobPriority.LOW : JobPriority.NORMAL;
  const timeout = startTimeoutSeconds(header);
  return {
    priority,
    requestId: header.get(requestIdHeaderOf(header)) ?? "",
    ...(timeout !== undefined && {
      startTimeout: { seconds: BigInt(Math.floor(timeout)), nanos: Math.round((timeout % 1) * 1e9) },
    }),
  };
}

const maxStartSeconds = 604_800;

/** Longest wait for the start, in seconds; undefined for none. @throws FalError 422 */
export function startTimeoutSeconds(header: Headers): number | undefined {
  const text = header.get("x-fal-request-timeout");
  const seconds = Number(text ?? Number.NaN);
  if (text !== null && !(seconds >= 1 && seconds <= maxStartSeconds)) {
    const msg = `must be a number of seconds from 1 to ${maxStartSeconds}`;
    throw invalidFields([{ loc: ["header", "x-fal-request-timeout"], msg, type: "value_error" }]);
  }
  return text === null ? undefined : seconds;
}

/** Create a job and follow it to its end. It is cancelled when the client disconnects. */
export async function runJob(
  call: FrontCall,
  caller: Caller,
  input: FalInput,
  onUpdate: (job: Job) => Promise<void>,
): Promise<Job> {
  const jobs = jobsClient(call, caller);
  const request: MessageInitShape<typeof CreateJobRequestSchema> = { work: input.work, ...jobSettings(call.header) };
  const { job } = await jobs.createJob(request, forwardedHeaders(call));
  let last = job;
  try {
    for await (const update of jobs.watchJob({ id: job?.id ?? "" }, { signal: call.signal })) {
      last = update.job ?? last;
      if (last !== undefined) {
        await onUpdate(last);
      }
    }
  } catch (error) {
    if (call.signal.aborted && last !== undefined) {
      await jobs.cancelJob({ id: last.id }).catch(() => {});
    }
    throw error;
  }
  return last ?? raise();
}

function raise(): never {
  throw internal("the job was not returned");
}
