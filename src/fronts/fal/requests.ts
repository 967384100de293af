import { Code, ConnectError } from "@connectrpc/connect";
import type { Job } from "../../gen/throughline/v1/job_pb.js";
import type { Caller } from "../../mesh/access/callers.js";
import type { FrontCall } from "../../mesh/serve/http-front.js";
import { FalError, requestNotFound, toFalError } from "./errors.js";
import { isPipelineApp } from "./input.js";
import type { JobPolls } from "./job-polls.js";
import { formOfJob, outputOf, promptOf } from "./output.js";
import {
  failureOf,
  isFinal,
  type PolledJob,
  polledJobOf,
  type RequestUrls,
  requestUrls,
  statusOf,
} from "./polled-job.js";
import { createEventWriter, respond, respondOutput } from "./respond.js";
import { jobsClient } from "./submit.js";

/** A request that was submitted, as its caller names it. */
export interface NamedRequest {
  readonly app: string;
  readonly id: string;
  /** Start of the URLs in the answer. */
  readonly base: string;
  readonly withLogs: boolean;
}

/** Id of a job, which is that of a request. */
export const jobId = /^[0-9a-f]{32}$/;

/** @throws FalError 404 for an id that no job can have. */
function urlsOf({ base, app, id }: NamedRequest): RequestUrls {
  if (!jobId.test(id)) {
    throw requestNotFound();
  }
  return requestUrls(base, app, id);
}

/** Respond with the status of a request. */
export async function respondStatus(call: FrontCall, caller: Caller, named: NamedRequest, polls: JobPolls) {
  const urls = urlsOf(named);
  const job = await polls.read(caller.name ?? "", named.id, () => jobsClient(call, caller)).catch(hideUnknown);
  const { status, body } = statusOf(job, urls, named.withLogs);
  respond(call, named.id, status, body);
}

/** Send the status of a request as server-sent events, until its end. */
export async function streamStatus(
  call: FrontCall,
  caller: Caller,
  named: NamedRequest,
  polls: JobPolls,
): Promise<void> {
  const urls = urlsOf(named);
  const events = createEventWriter(call, named.id);
  const jobs = jobsClient(call, caller);
  // With its place in the queue, which the first update lacks. Streams of one job share the read.
  let newest: PolledJob | undefined = await polls.read(caller.name ?? "", named.id, () => jobs).catch(hideUnknown);
  let shown = "";
  try {
    for await (const update of jobs.watchJob({ id: named.id }, { signal: call.signal })) {
      newest = update.job && polledJobOf(update.job, newest);
      const body = newest && statusOf(newest, urls, named.withLogs).body;
      // Previews change the job, and not its status.
      if (body !== undefined && JSON.stringify(body) !== shown) {
        shown = JSON.stringify(body);
        await events.send(body);
      }
    }
    events.end();
  } catch (error) {
    if (!events.isOpen) {
      throw error;
    }
    await events.fail(toFalError(error, call.header));
  }
}

/** Respond with the output of a request, or the error of its app with that error's status. */
export async function respondResult(call: FrontCall, caller: Caller, named: NamedRequest): Promise<void> {
  urlsOf(named);
  const { job } = await jobsClient(call, caller).getJob({ id: named.id }).catch(hideUnknown);
  if (job === undefined) {
    throw requestNotFound();
  }
  const failure = failureOf(job);
  if (failure !== undefined) {
    throw failure;
  }
  if (job.detail.case !== "result") {
    throw new FalError(400, "the request is still in progress; wait until its status is COMPLETED", "bad_request");
  }
  const form = formOfJob(job, isPipelineApp(named.app));
  await respondOutput(call, named.id, outputOf(form, promptOf(job), [job.detail.value]));
}

/** Cancel a request, and respond with whether that was still possible. */
export async function cancelRequest(call: FrontCall, caller: Caller, named: NamedRequest, polls: JobPolls) {
  const cancelled = await cancel(call, caller, named);
  polls.forget(caller.name ?? "", named.id);
  if (cancelled === undefined) {
    const { detail } = requestNotFound();
    return respond(call, named.id, 404, { status: "NOT_FOUND", detail });
  }
  if (cancelled === "late") {
    return respond(call, named.id, 400, { status: "ALREADY_COMPLETED", detail: "the request has already ended" });
  }
  respond(call, named.id, 202, { status: "CANCELLATION_REQUESTED" });
}

async function cancel(call: FrontCall, caller: Caller, { id }: NamedRequest): Promise<"done" | "late" | undefined> {
  if (!jobId.test(id)) {
    return undefined;
  }
  const jobs = jobsClient(call, caller);
  try {
    const before: Job | undefined = (await jobs.getJob({ id })).job;
    if (before !== undefined && isFinal(before)) {
      return "late";
    }
    const after = (await jobs.cancelJob({ id })).job;
    return after !== undefined && failureOf(after)?.type === "client_cancelled" ? "done" : "late";
  } catch (error) {
    if (error instanceof ConnectError && error.code === Code.NotFound) {
      return undefined;
    }
    throw error;
  }
}

/** NOT_FOUND in fal's words. */
function hideUnknown(error: unknown): never {
  throw error instanceof ConnectError && error.code === Code.NotFound ? requestNotFound() : error;
}
