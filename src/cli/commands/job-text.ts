import { timestampMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { Stage } from "../../gen/throughline/v1/image_pb.js";
import { type Job, JobPriority, JobState } from "../../gen/throughline/v1/job_pb.js";
import { printable } from "../../studio/trace-text.js";
import { CliError } from "../errors.js";
import { renderTable } from "../terminal/table.js";
import { formatWait, type TextStyle } from "../terminal/terminal.js";

const plain: TextStyle = (_style, text) => text;

/** A job in a line: id, state, and what the state is about. */
export function describeJob(job: Job, style: TextStyle = plain): string {
  return `${job.id}  ${style("bold", stateName(job).padEnd(9))}  ${detailOf(job)}`.trimEnd();
}

/** A job with its prompt, the URL of its image and its trace, in lines for a terminal. */
export function renderJob(job: Job, style: TextStyle): string {
  const url = imageUrlOf(job);
  const lines: [string, string | undefined][] = [
    ["prompt", printable(promptOf(job), 2000)],
    ["image", url.startsWith("data:") ? "in the response, as --json prints it" : printable(url, 8000)],
    ["trace", job.traceId],
  ];
  const rest = lines.filter(([, value]) => value).map(([name, value]) => `${style("dim", name.padEnd(6))}  ${value}\n`);
  return `${describeJob(job, style)}\n${rest.join("")}`;
}

/** Jobs as a table for a terminal, one line each; a message if there are none. */
export function renderJobs(jobs: readonly Job[], style: TextStyle): string {
  if (jobs.length === 0) {
    return "no jobs\n";
  }
  const rows = jobs.map((job) => {
    const age = job.createTime === undefined ? "" : formatWait(Math.max(0, Date.now() - timestampMs(job.createTime)));
    return [job.id, stateName(job), age, printable(detailOf(job), 60), printable(promptOf(job), 40)];
  });
  const lineStyle = (line: string, row: number) => (jobs[row]?.state === JobState.FAILED ? style("red", line) : line);
  return renderTable(["JOB", "STATE", "AGE", "DETAIL", "PROMPT"], rows, lineStyle, style);
}

function stateName({ state }: Job): string {
  return JobState[state].toLowerCase();
}

function promptOf({ work }: Job): string {
  return (work.case === "generate" ? work.value.prompt : work.value?.request?.prompt) ?? "";
}

function imageUrlOf({ detail }: Job): string {
  return (detail.case === "result" ? detail.value.image?.url : undefined) ?? "";
}

function detailOf(job: Job): string {
  const details = [stateDetailOf(job), job.attempt > 1 ? `attempt ${job.attempt}` : ""];
  return details.filter((detail) => detail !== "").join(", ");
}

function stateDetailOf({ state, detail, startTime, endTime }: Job): string {
  switch (detail.case) {
    case "queued": {
      const { position, estimatedWaitMs, noWorker } = detail.value;
      const estimate = estimatedWaitMs > 0 ? `, starts in about ${formatWait(estimatedWaitMs)}` : "";
      const wait = noWorker ? ", waits for a worker to start" : estimate;
      return `${position === 0 ? "next" : `${position} before it`}${wait}`;
    }
    case "progress": {
      const { step, totalSteps } = detail.value;
      return totalSteps === 0 ? "" : `step ${step} of ${totalSteps}`;
    }
    case "result": {
      const { image, seed } = detail.value;
      const took = startTime && endTime ? `, ${formatWait(timestampMs(endTime) - timestampMs(startTime))}` : "";
      return `${image?.width}×${image?.height}, seed ${seed}${took}`;
    }
    case "error":
      return `${codeName(detail.value.code)}: ${printable(detail.value.message, 300)}`;
    default:
      return state === JobState.CANCELLED && startTime === undefined ? "before its start" : "";
  }
}

/** A job as `--json` prints it. */
export function jobToJson(job: Job): object {
  const { detail } = job;
  return {
    id: job.id,
    state: JobState[job.state],
    workerApp: job.workerApp,
    prompt: promptOf(job),
    priority: JobPriority[job.priority],
    createTime: job.createTime && new Date(timestampMs(job.createTime)).toISOString(),
    startTime: job.startTime && new Date(timestampMs(job.startTime)).toISOString(),
    endTime: job.endTime && new Date(timestampMs(job.endTime)).toISOString(),
    expireTime: job.expireTime && new Date(timestampMs(job.expireTime)).toISOString(),
    attempt: job.attempt,
    traceId: job.traceId,
    ...(detail.case === "queued" && {
      position: detail.value.position,
      estimatedWaitMs: detail.value.estimatedWaitMs,
      noWorker: detail.value.noWorker,
    }),
    ...(detail.case === "progress" && {
      stage: Stage[detail.value.stage],
      step: detail.value.step,
      totalSteps: detail.value.totalSteps,
    }),
    ...(detail.case === "result" && { seed: detail.value.seed, imageUrl: detail.value.image?.url }),
    ...(detail.case === "error" && {
      error: { code: codeName(detail.value.code), message: detail.value.message },
    }),
  };
}

/** Why a job that was waited for has no image. */
export function jobFailure(job: Job): CliError {
  const { detail, id } = job;
  const reason =
    detail.case === "error"
      ? `has failed: ${codeName(detail.value.code)}: ${printable(detail.value.message, 1000)}`
      : `is ${stateName(job)}`;
  return new CliError(`job ${id} ${reason}`);
}

function codeName(code: number): string {
  const known = Object.values(Code).find((value): value is Code => value === code);
  return known === undefined ? `code ${code}` : codeToString(known).toUpperCase();
}
