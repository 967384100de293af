import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { type Status, StatusSchema } from "../gen/google/rpc/status_pb.js";
import type { GenerationOptions } from "../gen/throughline/v1/image_pb.js";
import { type CreateJobRequest, CreateJobRequestSchema, type Job, JobSchema } from "../gen/throughline/v1/job_pb.js";
import { type GenerateResponse, GenerateResponseSchema } from "../gen/throughline/v1/pipeline_pb.js";
import { type Fingerprints, type PayloadCipher, PayloadError } from "./payload-cipher.js";

/** What a job is to do: one of the contract's two requests. */
export type JobWork = Extract<Job["work"], { readonly case: string }>;

/** Options of a job's request. As they are stored, an `initImage` is empty: it is a file. */
export function optionsOf(work: JobWork): GenerationOptions | undefined {
  return work.case === "generate" ? work.value.options : work.value.request?.options;
}

/** What became of a job. */
export type JobOutcome =
  | { readonly case: "result"; readonly value: GenerateResponse }
  | { readonly case: "error"; readonly value: Status };

/** Reads and writes the stored payloads of jobs. The contract's messages are their form. */
export interface JobPayloads {
  sealWork(id: string, work: JobWork): Uint8Array;
  openWork(id: string, sealed: Uint8Array): JobWork;
  sealResult(id: string, result: GenerateResponse): Uint8Array;
  sealError(id: string, error: Status): Uint8Array;
  openResult(id: string, sealed: Uint8Array): GenerateResponse;
  openError(id: string, sealed: Uint8Array): Status;
  sealWebhook(id: string, url: string): Uint8Array;
  openWebhook(id: string, sealed: Uint8Array): string;
  /** By which the same request is known again. */
  fingerprints(request: CreateJobRequest): Fingerprints;
}

/** Creates the payloads' codec over a cipher. */
export function createJobPayloads(cipher: PayloadCipher): JobPayloads {
  return {
    sealWork: (id, work) => cipher.seal(toBinary(JobSchema, create(JobSchema, { work })), `${id} work`),
    openWork(id, sealed) {
      const { work } = decode(JobSchema, cipher.open(sealed, `${id} work`));
      if (work.case === undefined) {
        throw new PayloadError(`job ${id} has no work that this version knows`);
      }
      return work;
    },
    sealResult: (id, result) => cipher.seal(toBinary(GenerateResponseSchema, result), `${id} outcome`),
    sealError: (id, error) => cipher.seal(toBinary(StatusSchema, error), `${id} outcome`),
    openResult: (id, sealed) => decode(GenerateResponseSchema, cipher.open(sealed, `${id} outcome`)),
    openError: (id, sealed) => decode(StatusSchema, cipher.open(sealed, `${id} outcome`)),
    sealWebhook: (id, url) => cipher.seal(Buffer.from(url), `${id} webhook`),
    openWebhook: (id, sealed) => Buffer.from(cipher.open(sealed, `${id} webhook`)).toString(),
    fingerprints: (request) => cipher.fingerprints(toBinary(CreateJobRequestSchema, { ...request, traceContext: {} })),
  };
}

/** The bytes are not in the message: they may be a prompt's. */
function decode<Desc extends DescMessage>(schema: Desc, bytes: Uint8Array): MessageShape<Desc> {
  try {
    return fromBinary(schema, bytes);
  } catch (error) {
    throw new PayloadError("a stored job was changed", { cause: error });
  }
}
