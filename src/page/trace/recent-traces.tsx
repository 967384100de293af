import { formatAge, formatDuration } from "../shell/duration-text.js";
import { useNow } from "../shell/hooks.js";
import type { Studio } from "../shell/studio.js";
import { serviceColour } from "./service-colour.js";

/** The newest traces of all callers. */
export function RecentTraces({ studio }: { studio: Studio }) {
  const traces = studio.connection.traces.value;
  const now = useNow(traces.length > 0, 5000);
  const current = studio.traces.trace.value?.traceId;
  return (
    <section class="panel recent" aria-labelledby="recent-title">
      <div class="head">
        <h2 id="recent-title">Recent traces</h2>
        <span class="muted">of all callers</span>
      </div>
      {traces.length === 0 ? (
        <p class="muted">None yet.</p>
      ) : (
        <ol>
          {traces.map((trace) => (
            <li key={trace.traceId}>
              <button
                type="button"
                aria-current={trace.traceId === current}
                onClick={() => studio.lookAt(trace.traceId)}
              >
                <span
                  class="swatch"
                  style={{ background: `var(--service-${serviceColour(trace.service)})` }}
                  aria-hidden="true"
                />
                <span class="trace-name">{trace.name}</span>
                <code class="muted">{trace.traceId.slice(0, 8)}</code>
                <span class={trace.errorCount > 0 ? "wrong" : "muted"}>{stateWords(trace)}</span>
                <span class="figures">{trace.running ? "" : formatDuration(Number(trace.durationNano) / 1e6)}</span>
                <span class="muted age">{formatAge(now - Number(trace.startUnixNano) / 1e6)}</span>
              </button>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}

function stateWords({
  running,
  errorCount,
  spanCount,
}: {
  running: boolean;
  errorCount: number;
  spanCount: number;
}): string {
  if (errorCount > 0) {
    return errorCount === 1 ? "1 error" : `${errorCount} errors`;
  }
  return running ? "running" : spanCount === 1 ? "1 span" : `${spanCount} spans`;
}
