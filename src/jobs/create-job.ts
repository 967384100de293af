import { randomBytes } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import type { Duration } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type Context,
  type Link,
  ROOT_CONTEXT,
  SpanKind,
  type TextMapPropagator,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import type { PipelineCalls } from "../calls/pipeline-calls.js";
import { type GenerationOptions, GenerationOptionsSchema } from "../gen/throughline/v1/image_pb.js";
import { type CreateJobRequest, InferJobSchema, JobPriority } from "../gen/throughline/v1/job_pb.js";
import { GenerateRequestSchema } from "../gen/throughline/v1/pipeline_pb.js";
import { InferRequestSchema } from "../gen/throughline/v1/worker_pb.js";
import { ImageStoreError } from "../image/image-store-error.js";
import { seedOf } from "../image/seed.js";
import { createConnectError, internal, invalidField, queueFull, storeFailure } from "../mesh/errors/errors.js";
import type { RemoteParent } from "../otelconnect/otel-context.js";
import { type CallerContext, extractCarrier, injectCarrier, readCallerContext } from "../trace/carrier.js";
import { traceIdOf, withSpan } from "../trace/span-scope.js";
import { initImageFile, type JobFiles } from "./job-files.js";
import type { JobPayloads, JobWork } from "./job-payloads.js";
import type { QueuePlace } from "./job-places.js";
import type { StoredJob } from "./job-rows.js";
import type { JobStore } from "./job-store.js";
import { jobAttributes } from "./job-trace.js";
import type { WaitingLimits } from "./waiting-limits.js";

/** Dependencies of {@link createJob}. */
export interface CreateJobContext {
  readonly store: JobStore;
  readonly payloads: JobPayloads;
  readonly files: JobFiles;
  readonly pipeline: PipelineCalls;
  readonly tracer: Tracer;
  readonly propagator: TextMapPropagator;
  /** Use of a caller's trace headers if the request's carrier names no parent. */
  readonly headerPolicy: RemoteParent;
  readonly limits: WaitingLimits;
  /** @throws ConnectError INVALID_ARGUMENT if webhooks may not be sent to the URL. */
  readonly checkWebhook: (url: string) => void;
}

/** Properties of a call besides its message. */
export interface CreateJobCall {
  /** Name of the caller; empty without access control. */
  readonly owner: string;
  /** Fairness key of the caller. */
  readonly caller: string;
  readonly header: Headers;
  /** @throws ConnectError PERMISSION_DENIED if the caller may not use the app. */
  readonly checkMayUse: (appId: string) => void;
}

/** A stored job. */
export interface CreatedJob {
  readonly job: StoredJob;
  /** Its place in the queue. Undefined for a job that an earlier call made. */
  readonly place: QueuePlace | undefined;
}

/** Default and maximum of `result_ttl` and `run_timeout`, in seconds. */
const defaultTtlSeconds = 24 * 3600;
const defaultRunSeconds = 3600;
/** Estimated work of a job for an app that has served no call yet, in seconds. */
const unknownCostSeconds = 10;
/** Delay for callers whose job does not fit into the queue, in milliseconds. */
const fullRetryMs = 5_000;

/**
 * Stores a job: check → PRODUCER span `send` → files → row and queue in one transaction. A repeated request returns the job that it made.
 *
 * @throws ConnectError
 */
export async function createJob(
  request: CreateJobRequest,
  call: CreateJobCall,
  context: CreateJobContext,
): Promise<CreatedJob> {
  const { store, payloads, files, pipeline, tracer, propagator, limits } = context;
  if (request.requestId.includes("\0")) {
    throw invalidField("request_id", "text without NUL characters, which PostgreSQL does not store");
  }
  const { work, initImage } = storableWork(request);
  const identified =
    request.requestId === "" ? undefined : { id: request.requestId, prints: payloads.fingerprints(request) };
  let app: string;
  try {
    app = findApp(work, call, pipeline);
    if (request.webhookUrl !== "") {
      context.checkWebhook(request.webhookUrl);
    }
  } catch (error) {
    // A repeated request has its job, whatever the operator has switched off since.
    const earlier = identified && (await store.findRequest(call.owner, identified));
    if (earlier?.kind === "known") {
      return { job: earlier.job, place: undefined };
    }
    throw earlier === undefined ? error : conflict();
  }
  const id = randomBytes(16).toString("hex");
  const { serviceMs } = await pipeline.workersOf(app);

  const { parent, links } = originOf(request, call.header, context);
  const options = {
    parent,
    links: [...links],
    kind: SpanKind.PRODUCER,
    attributes: jobAttributes("send", { id, app }),
  };
  return withSpan(tracer, "send", options, async (span, scope) => {
    try {
      if (initImage !== undefined) {
        const write = await files.open(id);
        await write(initImageFile, initImage);
      }
      const creation = await store.create(
        {
          id,
          owner: call.owner,
          caller: call.caller,
          app,
          priority: request.priority === JobPriority.UNSPECIFIED ? JobPriority.NORMAL : request.priority,
          costSeconds: serviceMs === undefined ? unknownCostSeconds : serviceMs / 1000,
          request: identified,
          startTimeoutSeconds: secondsOf(request.startTimeout),
          runTimeoutSeconds: Math.ceil(secondsOf(request.runTimeout) ?? defaultRunSeconds),
          ttlSeconds: Math.ceil(secondsOf(request.resultTtl) ?? defaultTtlSeconds),
          traceId: traceIdOf(scope),
          traceContext: injectCarrier(propagator, scope),
          work: payloads.sealWork(id, work),
          webhook: request.webhookUrl === "" ? undefined : payloads.sealWebhook(id, request.webhookUrl),
          webhookHost: request.webhookUrl === "" ? undefined : new URL(request.webhookUrl).host,
        },
        limits,
      );
      switch (creation.kind) {
        case "created":
          return creation;
        case "known":
          span.setAttribute("messaging.message.id", creation.job.id);
          await files.delete(id);
          return { job: creation.job, place: undefined };
        case "conflict":
          throw conflict();
        case "full":
          throw queueFull(
            creation.of === "all"
              ? `${creation.limit} jobs wait, which is the limit`
              : `${creation.limit} jobs of this caller wait, which is the limit`,
            fullRetryMs,
          );
      }
    } catch (error) {
      if (isRefusal(error) || (await isMissing(id, store))) {
        await files.delete(id).catch(() => {});
      }
      throw error instanceof ImageStoreError ? storeFailure(error.reason, error) : error;
    }
  });
}

function conflict(): ConnectError {
  return createConnectError({
    code: Code.AlreadyExists,
    message: "request_id: another request of this caller has it; choose a new one for a new job",
  });
}

/** Whether an error is ours, so that nothing was stored. */
function isRefusal(error: unknown): boolean {
  return error instanceof ConnectError || error instanceof ImageStoreError;
}

/** False if the database cannot say so: the answer to a commit may be lost, and a job that exists needs its files. */
function isMissing(id: string, store: JobStore): Promise<boolean> {
  return store.read(id).then(
    (job) => job === undefined,
    () => false,
  );
}

/** The work as it is stored: with its seed, so that all attempts generate the same image, and without its image, which is a file. */
function storableWork({ work }: CreateJobRequest): {
  readonly work: JobWork;
  readonly initImage: Uint8Array | undefined;
} {
  switch (work.case) {
    case "generate": {
      const { options, initImage } = storableOptions(work.value.options);
      return {
        work: { case: "generate", value: create(GenerateRequestSchema, { ...work.value, options }) },
        initImage,
      };
    }
    case "infer": {
      const { workerApp, request = create(InferRequestSchema) } = work.value;
      const { options, initImage } = storableOptions(request.options);
      const value = create(InferJobSchema, { workerApp, request: { ...request, options } });
      return { work: { case: "infer", value }, initImage };
    }
    default:
      throw internal("the request was not validated");
  }
}

function storableOptions(wanted: GenerationOptions | undefined) {
  const { initImage, ...rest } = wanted ?? create(GenerationOptionsSchema);
  // Empty, it says that there is a file: without it, an attempt must not generate another image.
  const mark = initImage && { initImage: new Uint8Array() };
  return { options: create(GenerationOptionsSchema, { ...rest, ...mark, seed: seedOf(wanted) }), initImage };
}

/** The permission is checked first, because NOT_FOUND lists all apps. */
function findApp({ value }: JobWork, { checkMayUse }: CreateJobCall, pipeline: PipelineCalls): string {
  if (value.workerApp !== "") {
    checkMayUse(value.workerApp);
  }
  const app = pipeline.resolveApp(value.workerApp);
  checkMayUse(app);
  return app;
}

/**
 * Parent and links of `send`. Of an `infer` job, whose worker continues the caller's trace, the job's own spans are a trace beside it, with a
 * link.
 */
function originOf({ work, traceContext }: CreateJobRequest, header: Headers, context: CreateJobContext): CallerContext {
  const { propagator, headerPolicy: policy } = context;
  const origin = readCallerContext({ propagator, header, policy, carrier: traceContext });
  if (work.case !== "infer") {
    return origin;
  }
  const caller = linkTo(extractCarrier(propagator, work.value.request?.traceContext ?? {}));
  return { parent: ROOT_CONTEXT, links: [...origin.links, ...linkTo(origin.parent), ...caller] };
}

function linkTo(scope: Context): Link[] {
  const span = trace.getSpanContext(scope);
  return span === undefined ? [] : [{ context: span }];
}

function secondsOf(duration: Duration | undefined): number | undefined {
  return duration && Number(duration.seconds) + duration.nanos / 1e9;
}
