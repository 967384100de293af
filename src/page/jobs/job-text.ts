import { Code } from "@connectrpc/connect";
import { type Job, JobPriority, JobState } from "../../gen/throughline/v1/job_pb.js";
import { phaseLabel, progressDetail } from "../request/progress-text.js";
import { formatDuration } from "../shell/format.js";
import { isUnfinished, type JobEntry } from "./job-entry.js";
import { runMs } from "./job-image.js";

/** State of a job, such as `Waiting: 2 before you, begins in about 12 s` or `Done in 1.53 s`. */
export function stateText({ job, running }: JobEntry): string {
  switch (job.state) {
    case JobState.QUEUED:
      return running === undefined || running.phase.kind === "sent"
        ? "Waiting"
        : [phaseLabel(running), progressDetail(running, undefined)].filter((part) => part !== "").join(", ");
    case JobState.RUNNING:
      return running === undefined ? "Running" : phaseLabel(running);
    case JobState.SUCCEEDED:
      return `Done in ${formatDuration(runMs(job))}`;
    case JobState.FAILED:
      return "Failed";
    case JobState.CANCELLED:
      return "Cancelled";
    default:
      // Of a newer pipeline.
      return "";
  }
}

/** Error of a failed job as its service names it, such as `INVALID_ARGUMENT: …`; empty for any other job. */
export function errorText({ detail }: Job): string {
  if (detail.case !== "error") {
    return "";
  }
  const { code, message } = detail.value;
  return [codeName(code), message].filter((part) => part !== "").join(": ");
}

function codeName(code: number): string {
  return code === Code.Canceled
    ? "CANCELLED"
    : (Code[code] ?? String(code)).replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}

/** What is unusual about a job: its class and the number of its attempts. */
export function notesOf({ priority, attempt }: Job): readonly string[] {
  return [
    ...(priority === JobPriority.HIGH ? ["high priority"] : priority === JobPriority.LOW ? ["low priority"] : []),
    ...(attempt > 1 ? [`attempt ${attempt}`] : []),
  ];
}

/** How many of the jobs run and wait, such as `1 running, 3 waiting`; else how many there are. */
export function countText(entries: readonly JobEntry[], hasMore: boolean): string {
  const running = entries.filter(({ job }) => job.state === JobState.RUNNING).length;
  const waiting = entries.filter(({ job }) => isUnfinished(job)).length - running;
  const parts = [...(running > 0 ? [`${running} running`] : []), ...(waiting > 0 ? [`${waiting} waiting`] : [])];
  const all = hasMore ? `the newest ${entries.length}` : entries.length === 1 ? "1 job" : `${entries.length} jobs`;
  return [all, ...parts].join(", ");
}
