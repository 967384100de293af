import { JobPriority } from "../../gen/throughline/v1/job_pb.js";
import { Advice } from "../shell/header.js";
import type { Studio } from "../shell/studio.js";

/** Submits the form as a job; nothing where the pipeline has no jobs. */
export function SubmitJob({ studio }: { studio: Studio }) {
  const { areOffered, submission } = studio.jobs;
  if (!areOffered.value) {
    return null;
  }
  const state = submission.state.value;
  return (
    <>
      <button
        type="button"
        title="A job goes on when this page is closed, and when the pipeline restarts."
        aria-disabled={state.kind === "sending"}
        onClick={() => studio.submitJob()}
      >
        {state.kind === "sending" ? "Submitting …" : "Submit as job"}
      </button>
      {state.kind === "failed" && !state.problem.needsKey && (
        <p class="wrong" role="alert">
          <strong>{state.problem.title}.</strong> <Advice text={state.problem.advice} /> {state.problem.detail}
        </p>
      )}
      <p class="muted submitted" role="status">
        {state.kind === "sent" ? "Job submitted: it is in the list under Jobs." : ""}
      </p>
    </>
  );
}

const priorities = [
  [JobPriority.NORMAL, "Normal (default)"],
  [JobPriority.HIGH, "High: before all others"],
  [JobPriority.LOW, "Low: when no other job waits"],
] as const;

/** The class of the next jobs. */
export function PriorityField({ studio }: { studio: Studio }) {
  const { areOffered, submission } = studio.jobs;
  return !areOffered.value ? null : (
    <div class="field wide">
      <label for="priority">Priority of jobs</label>
      <select
        id="priority"
        value={submission.priority.value}
        onChange={(event) => {
          const [priority = JobPriority.NORMAL] = priorities[event.currentTarget.selectedIndex] ?? [];
          submission.priority.value = priority;
        }}
      >
        {priorities.map(([priority, label]) => (
          <option key={priority} value={priority}>
            {label}
          </option>
        ))}
      </select>
    </div>
  );
}
