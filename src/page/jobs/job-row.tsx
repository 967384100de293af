import { useEffect, useRef, useState } from "preact/hooks";
import { JobState } from "../../gen/throughline/v1/job_pb.js";
import { ProgressBar, usePreviewUrl } from "../request/progress-bar.js";
import { formatAge } from "../shell/format.js";
import type { Studio } from "../shell/studio.js";
import { createdMs, isUnfinished, type JobEntry } from "./job-entry.js";
import { askOf } from "./job-form.js";
import { imageUrlOf } from "./job-image.js";
import { errorText, notesOf, stateText } from "./job-text.js";

interface JobProps {
  readonly studio: Studio;
  readonly entry: JobEntry;
}

interface RowProps extends JobProps {
  /** Milliseconds since 1970. */
  readonly now: number;
  /** Called when its job is deleted, and the row with it. */
  readonly onRemoved: () => void;
}

/** A job with its state, its image and what can be done with it. */
export function JobRow({ studio, entry, now, onRemoved }: RowProps) {
  const { job, running } = entry;
  const { form } = askOf(job);
  const isRunning = job.state === JobState.RUNNING;
  const isOpened = studio.openedJob.entry.value?.job.id === job.id;
  const error = errorText(job);
  const created = createdMs(job);
  return (
    <li class="job" aria-current={isOpened}>
      <JobThumbnail studio={studio} entry={entry} prompt={form.prompt} />
      <div class="job-body">
        <p class="caption" dir="auto" title={form.prompt}>
          {form.prompt}
        </p>
        {isRunning && running !== undefined && <ProgressBar running={running} tailMs={0} />}
        <p class="figures state">
          {!isRunning && <span class={job.state === JobState.FAILED ? "wrong" : ""}>{stateText(entry)}</span>}
          <span class="muted notes">
            {notesOf(job).map((note) => `${note} · `)}
            <time dateTime={new Date(created).toISOString()} title={new Date(created).toLocaleString()}>
              {formatAge(now - created)}
            </time>
          </span>
        </p>
        {error !== "" && <p class="wrong detail">{error}</p>}
        <Actions studio={studio} entry={entry} prompt={form.prompt} onRemoved={onRemoved} />
      </div>
    </li>
  );
}

function JobThumbnail({ studio, entry, prompt }: JobProps & { prompt: string }) {
  const { job, running } = entry;
  const previewUrl = usePreviewUrl(running);
  const image = job.detail.case === "result" ? job.detail.value.image : undefined;
  // A job whose delivery puts the image into the message has none in lists: it is fetched when it is opened.
  const opened = studio.shown.value?.id === job.id;
  const url = (image && imageUrlOf(job, image)) || previewUrl;
  if (job.state !== JobState.SUCCEEDED && job.state !== JobState.RUNNING) {
    return <span class="job-image" />;
  }
  return (
    <button
      type="button"
      class="job-image"
      aria-label={`Show: ${prompt}`}
      title="Show it above, with its trace"
      aria-current={opened}
      onClick={() => {
        studio.openJob(job);
        document.getElementById("image")?.scrollIntoView({ block: "nearest" });
      }}
    >
      {url === undefined || url === "" ? <span aria-hidden="true">⤢</span> : <img src={url} alt="" loading="lazy" />}
    </button>
  );
}

function Actions({ studio, entry, prompt, onRemoved }: JobProps & { prompt: string; onRemoved: () => void }) {
  const { job } = entry;
  const { jobs } = studio;
  const [asks, setAsks] = useState(false);
  const keep = useRef<HTMLButtonElement>(null);
  const remove = useRef<HTMLButtonElement>(null);
  const isBusy = jobs.busy.value.has(job.id);
  useEffect(() => {
    if (asks) {
      keep.current?.focus();
    }
  }, [asks]);
  if (asks) {
    return (
      <fieldset class="job-actions" aria-label={`Delete: ${prompt}`}>
        <span>{isUnfinished(job) ? "Cancel and delete it?" : "Delete it with its image?"}</span>
        <button
          type="button"
          class="quiet wrong"
          aria-disabled={isBusy}
          onClick={() => void jobs.remove(job.id).then(() => (jobs.list.has(job.id) ? setAsks(false) : onRemoved()))}
        >
          Delete
        </button>
        <button
          type="button"
          class="quiet"
          ref={keep}
          onClick={() => {
            setAsks(false);
            requestAnimationFrame(() => remove.current?.focus());
          }}
        >
          Keep
        </button>
      </fieldset>
    );
  }
  return (
    <div class="job-actions">
      {isUnfinished(job) && (
        <button
          type="button"
          class="quiet"
          aria-label={`Cancel: ${prompt}`}
          aria-disabled={isBusy}
          onClick={() => void jobs.cancel(job.id)}
        >
          Cancel
        </button>
      )}
      <button
        type="button"
        class="quiet"
        aria-label={`Again: ${prompt}`}
        title="Fill the form with it"
        onClick={() => {
          studio.fillFromJob(job);
          document.getElementById("prompt")?.focus();
        }}
      >
        Again
      </button>
      <TraceLink studio={studio} traceId={job.traceId} prompt={prompt} />
      <button type="button" class="quiet" ref={remove} aria-label={`Delete: ${prompt}`} onClick={() => setAsks(true)}>
        Delete
      </button>
    </div>
  );
}

/** The trace on this page, or in the backend where the page has none. */
function TraceLink({ studio, traceId, prompt }: { studio: Studio; traceId: string; prompt: string }) {
  const { hasTraces = false, traceUrlTemplate = "" } = studio.connection.offer.value ?? {};
  if (traceId === "" || !(hasTraces || traceUrlTemplate !== "")) {
    return null;
  }
  return hasTraces ? (
    <a
      class="quiet button"
      href={`#trace=${traceId}`}
      aria-label={`Trace: ${prompt}`}
      onClick={() => {
        // A link to where the page is already changes nothing.
        studio.lookAt(traceId);
        document.getElementById("trace-title")?.scrollIntoView({ block: "nearest" });
      }}
    >
      Trace
    </a>
  ) : (
    <a
      class="quiet button"
      href={traceUrlTemplate.replaceAll("{traceId}", traceId)}
      target="_blank"
      rel="noreferrer"
      aria-label={`Trace: ${prompt}`}
    >
      Trace
    </a>
  );
}
