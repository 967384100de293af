import { JobPriority, JobState } from "../../src/gen/throughline/v1/job_pb.js";
import type { StoredJob } from "../../src/jobs/job-rows.js";

/** A job as the database has it, with changes. */
export function storedJob(changes: Partial<StoredJob> = {}): StoredJob {
  return {
    id: "0123456789abcdef0123456789abcdef",
    owner: "",
    caller: "",
    app: "acme/worker",
    state: JobState.QUEUED,
    priority: JobPriority.NORMAL,
    createTime: new Date(0),
    startTime: undefined,
    endTime: undefined,
    expireTime: undefined,
    runTimeoutSeconds: 60,
    attempt: 1,
    enginesLost: 0,
    traceId: "",
    traceContext: {},
    lastAttempt: undefined,
    progress: { stage: 0, step: 0, totalSteps: 0 },
    work: new Uint8Array(),
    outcome: undefined,
    webhook: undefined,
    webhookHost: undefined,
    ...changes,
  };
}
