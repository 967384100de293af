import { useObjectUrl } from "../shell/hooks.js";
import type { Studio } from "../shell/studio.js";
import type { HistoryEntry } from "./history.js";

/** The pictures of this browser, newest first. */
export function HistoryStrip({ studio }: { studio: Studio }) {
  const entries = studio.history.entries.value;
  if (entries.length === 0) {
    return null;
  }
  return (
    <section class="panel history" aria-labelledby="history-title">
      <div class="head">
        <h2 id="history-title">History</h2>
        <span class="muted">
          {entries.length === 1 ? "1 picture" : `${entries.length} pictures`}, in this browser only
        </span>
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
