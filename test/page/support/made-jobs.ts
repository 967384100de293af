import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Job, JobSchema, JobState } from "../../../src/gen/throughline/v1/job_pb.js";

/** Milliseconds since 1970 of the first job. */
export const firstMs = 1_760_000_000_000;

/** A job whose number gives its id and its second of creation. */
export function madeJob(number: number, more: MessageInitShape<typeof JobSchema> = {}): Job {
  return create(JobSchema, {
    id: idOf(number),
    state: JobState.QUEUED,
    createTime: timestampFromMs(firstMs + number * 1000),
    traceId: "4e59a70947e16460dd0641a9b92f3047",
    work: { case: "generate", value: { prompt: `job ${number}` } },
    ...more,
  });
}

/** Id of a made job. */
export function idOf(number: number): string {
  return number.toString(16).padStart(32, "0");
}
