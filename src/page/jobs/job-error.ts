import { Code, ConnectError } from "@connectrpc/connect";
import { type UserError, userErrorOf } from "../request/user-error.js";
import { roughDuration } from "../shell/format.js";

/** Describes a failed call of JobService. */
export function jobErrorOf(error: unknown): UserError {
  const problem = userErrorOf(error);
  if (problem.connectionLost || problem.needsKey) {
    return problem;
  }
  const { code } = ConnectError.from(error);
  if (code === Code.ResourceExhausted && problem.retryAfterMs !== undefined) {
    return {
      ...problem,
      title: "Too many jobs wait",
      advice: `Submit it again in about ${roughDuration(problem.retryAfterMs)}, or cancel jobs that wait.`,
    };
  }
  return { ...problem, ...titles.get(code) };
}

const titles: ReadonlyMap<Code, Pick<UserError, "title" | "advice">> = new Map([
  [
    Code.Unimplemented,
    {
      title: "This pipeline has no jobs",
      advice: "Start it with `--jobs`, and its jobs outlive this page and the pipeline itself.",
    },
  ],
  [
    Code.PermissionDenied,
    {
      title: "The jobs are not open to this caller",
      advice: "Jobs that you submit on this page are shown as long as it is open.",
    },
  ],
  [
    Code.Unavailable,
    {
      title: "The jobs cannot be reached",
      advice: "Their database may be starting, full or down. This page goes on as soon as it answers.",
    },
  ],
  [
    Code.AlreadyExists,
    { title: "The job was submitted already", advice: "Change the form, or look for the job in the list." },
  ],
  [Code.NotFound, { title: "There is no such job or app", advice: "The job was deleted, or the app is not known." }],
]);
