import { useRef } from "preact/hooks";
import type { UserError } from "../request/user-error.js";
import { Advice } from "../shell/header.js";
import { useNow } from "../shell/hooks.js";
import type { Studio } from "../shell/studio.js";
import { JobRow } from "./job-row.js";
import { countText } from "./job-text.js";

/** The caller's jobs as the server has them, newest first. Closed, it asks for nothing. */
export function JobsPanel({ studio }: { studio: Studio }) {
  const { areOffered, isOpen, list, announcement } = studio.jobs;
  const summary = useRef<HTMLElement>(null);
  if (!areOffered.value) {
    return null;
  }
  const entries = list.entries.value;
  const isReady = list.state.value.kind === "ready";
  return (
    <details
      class="panel jobs"
      open={isOpen.value}
      onToggle={(event) => {
        isOpen.value = event.currentTarget.open;
      }}
    >
      <summary ref={summary}>
        <h2>Jobs</h2>
        {isOpen.value && isReady && entries.length > 0 && (
          <span class="muted">{countText(entries, list.hasMore.value)}</span>
        )}
      </summary>
      {isOpen.value && (
        <>
          <ListMessage studio={studio} />
          {/* A job that is deleted takes the focus with it. */}
          <Rows studio={studio} onRemoved={() => summary.current?.focus()} />
        </>
      )}
      <p class="unseen" role="status">
        {announcement.value}
      </p>
    </details>
  );
}

function ListMessage({ studio }: { studio: Studio }) {
  const { list, problem } = studio.jobs;
  const state = list.state.value;
  const problemOfList = state.kind === "failed" && !state.problem.needsKey ? state.problem : undefined;
  // The connection's banner shows it already.
  const isShown = problemOfList?.connectionLost && studio.connection.state.value.kind === "lost";
  return (
    <>
      {problem.value !== undefined && <Problem problem={problem.value} isAlert />}
      {state.kind === "loading" && (
        <p class="muted">Loading. The first look opens the database of the jobs, which takes some seconds.</p>
      )}
      {problemOfList !== undefined && !isShown && <Problem problem={problemOfList} />}
      {state.kind === "ready" && list.entries.value.length === 0 && (
        <p class="muted">
          None yet. <strong>Submit as job</strong> below the prompt makes one: it goes on when this page is closed.
        </p>
      )}
    </>
  );
}

function Problem({ problem, isAlert = false }: { problem: UserError; isAlert?: boolean }) {
  const { title, advice, detail } = problem;
  return (
    <p class="problem" role={isAlert ? "alert" : undefined}>
      <strong>{title}.</strong> <Advice text={advice} /> <span class="muted">{detail}</span>
    </p>
  );
}

function Rows({ studio, onRemoved }: { studio: Studio; onRemoved: () => void }) {
  const { list } = studio.jobs;
  const entries = list.entries.value;
  const now = useNow(entries.length > 0, 5000);
  return entries.length === 0 ? null : (
    <div class="job-list">
      <ol aria-label="Jobs, newest first">
        {entries.map((entry) => (
          <JobRow key={entry.job.id} studio={studio} entry={entry} now={now} onRemoved={onRemoved} />
        ))}
      </ol>
      {list.hasMore.value && (
        <button type="button" class="quiet more" onClick={() => void list.loadMore()}>
          Load older jobs
        </button>
      )}
    </div>
  );
}
