import { askOf } from "../jobs/job-form.js";
import type { Running } from "../request/generation.js";
import { lorasOf } from "../request/loras.js";
import { ProgressBar, usePreviewUrl } from "../request/progress-bar.js";
import { progressText } from "../request/progress-text.js";
import { imageFileName, shareFragment } from "../request/request-form.js";
import { CopyButton } from "../shell/copy-button.js";
import { formatDuration } from "../shell/format.js";
import { useObjectUrl } from "../shell/hooks.js";
import type { Studio } from "../shell/studio.js";
import type { HistoryEntry } from "./history.js";

/** Prompts that every model understands, for one that brings none. */
const usualExamples = ["a red heart", "a smiling face", "a slice of pizza"];
/** Maximum number of prompts to try. */
const maxExamples = 6;

/** The image: the preview while it is generated, then the result. */
export function ImageStage({ studio }: { studio: Studio }) {
  const state = studio.generation.state.value;
  const job = studio.openedJob.entry.value;
  const [running, prompt] =
    state.kind === "running"
      ? [state, studio.form.value.prompt]
      : [job?.running, job === undefined ? "" : askOf(job.job).form.prompt];
  const entry = studio.shown.value;
  return (
    <section class="panel image" aria-label="Image" id="image">
      <Frame studio={studio} running={running} prompt={prompt} entry={entry} />
      {running !== undefined ? (
        <ProgressBar running={running} tailMs={studio.generation.tailMs.value} />
      ) : (
        entry !== undefined && <Result studio={studio} entry={entry} />
      )}
      {state.kind === "cancelled" && <p class="muted">{cancelledMessage(state.running)}</p>}
      <p class="unseen" role="status">
        {state.kind === "running"
          ? progressText(state)
          : state.kind === "done"
            ? `The image is done, in ${formatDuration(state.elapsedMs)}, with seed ${state.response.seed}`
            : state.kind === "cancelled"
              ? cancelledMessage(state.running)
              : ""}
      </p>
    </section>
  );
}

function cancelledMessage({ step, totalSteps }: Running): string {
  return totalSteps > 0 ? `Cancelled at step ${step} of ${totalSteps}.` : "Cancelled.";
}

interface FrameProps {
  readonly studio: Studio;
  readonly running: Running | undefined;
  /** Of what runs. */
  readonly prompt: string;
  readonly entry: HistoryEntry | undefined;
}

function Frame({ studio, running, prompt, entry }: FrameProps) {
  const ownExamples = studio.model.value?.examplePrompts ?? [];
  const examples = (ownExamples.length > 0 ? ownExamples : usualExamples).slice(0, maxExamples);
  const previewUrl = usePreviewUrl(running);
  const imageUrl = useObjectUrl(running === undefined ? entry?.image : undefined);
  if (running !== undefined) {
    return (
      <div class="frame is-forming">
        {previewUrl === undefined ? (
          <p class="muted">
            {running.phase.kind === "queued" ? "The job waits for a worker." : "The image begins as noise."}
          </p>
        ) : (
          <img src={previewUrl} alt={`Preview of: ${prompt}`} />
        )}
      </div>
    );
  }
  return (
    <div class="frame">
      {imageUrl === undefined || entry === undefined ? (
        <div class="invitation">
          <p class="muted">Enter a prompt and press Generate. The image appears here, and its trace beside it.</p>
          <p class="buttons">
            <span class="muted">Try:</span>
            {examples.map((example) => (
              <button
                key={example}
                type="button"
                dir="auto"
                title={example}
                onClick={() => studio.edit("prompt", example)}
              >
                {example}
              </button>
            ))}
          </p>
        </div>
      ) : (
        <img src={imageUrl} alt={entry.form.prompt} width={entry.width} height={entry.height} />
      )}
    </div>
  );
}

function Result({ studio, entry }: { studio: Studio; entry: HistoryEntry }) {
  const link = () => `${location.origin}${location.pathname}${shareFragment(entry.form)}`;
  return (
    <div class="result">
      <p class="caption" dir="auto" title={entry.form.prompt}>
        {entry.form.prompt}
      </p>
      <p class="muted figures">
        seed {entry.seed} · {entry.width}×{entry.height} · {formatDuration(entry.elapsedMs)} · {entry.model} on{" "}
        {entry.executionProvider}
      </p>
      <Origins entry={entry} />
      {entry.truncatedTokens > 0 && (
        <p class="wrong">
          The prompt was too long for the model: its last {entry.truncatedTokens} tokens were left out.
        </p>
      )}
      <div class="buttons">
        <button type="button" onClick={() => studio.regenerate(entry, "same")}>
          Again
        </button>
        <button type="button" onClick={() => studio.regenerate(entry, "other")}>
          Vary
        </button>
        {studio.rules.value.takesImage && (
          <button type="button" onClick={() => startFrom(studio, entry)}>
            Start from it
          </button>
        )}
        <DownloadLink entry={entry} />
      </div>
      <div class="copies">
        <span class="muted" aria-hidden="true">
          Copy
        </span>
        <CopyButton label="Link" before="Copy" text={link} />
        <CopyButton label="Seed" before="Copy" text={() => String(entry.seed)} />
        <CopyButton label="Prompt" before="Copy" text={() => entry.form.prompt} />
        {entry.start !== undefined && <span class="muted">A link has no start image.</span>}
      </div>
    </div>
  );
}

/** What an image was made from besides its prompt. */
function Origins({ entry: { form, start } }: { entry: HistoryEntry }) {
  const loras = lorasOf(form.loras).map(({ name, scale }) => (scale === "" ? name : `${name} ${scale}`));
  const parts = [
    ...(start === undefined ? [] : [`from ${start.name}${form.strength === "" ? "" : `, strength ${form.strength}`}`]),
    ...(loras.length === 0 ? [] : [`LoRAs ${loras.join(", ")}`]),
  ];
  return parts.length === 0 ? null : <p class="muted figures origins">{parts.join(" · ")}</p>;
}

function startFrom(studio: Studio, { form, seed, contentType, image }: HistoryEntry): void {
  void studio.startFrom(image, imageFileName(form.prompt, seed, contentType));
  // On a phone the form is above the image.
  document.getElementById("start")?.scrollIntoView({ block: "nearest" });
}

function DownloadLink({ entry }: { entry: HistoryEntry }) {
  const url = useObjectUrl(entry.image);
  return (
    <a class="button" href={url ?? ""} download={imageFileName(entry.form.prompt, entry.seed, entry.contentType)}>
      Download
    </a>
  );
}

/** The images of this browser, newest first. */
export function HistoryStrip({ studio }: { studio: Studio }) {
  const entries = studio.history.entries.value;
  if (entries.length === 0) {
    return null;
  }
  return (
    <section class="panel history" aria-labelledby="history-title">
      <div class="head">
        <h2 id="history-title">History</h2>
        <span class="muted">{entries.length === 1 ? "1 image" : `${entries.length} images`}, in this browser only</span>
        <button type="button" class="quiet" onClick={() => void studio.history.clear()}>
          Clear
        </button>
      </div>
      <ul>
        {entries.map((entry) => (
          <li key={entry.id}>
            <Thumbnail entry={entry} studio={studio} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function Thumbnail({ entry, studio }: { entry: HistoryEntry; studio: Studio }) {
  const url = useObjectUrl(entry.thumbnail);
  const label = `${entry.form.prompt}, seed ${entry.seed}`;
  return (
    <button
      type="button"
      aria-label={label}
      title={label}
      aria-current={studio.shown.value?.id === entry.id}
      onClick={() => studio.show(entry)}
    >
      <img src={url} alt="" loading="lazy" />
    </button>
  );
}
