import { useMemo } from "preact/hooks";
import { CopyButton } from "../shell/copy-button.js";
import { formatDuration } from "../shell/duration-text.js";
import { useFrames } from "../shell/hooks.js";
import type { Studio } from "../shell/studio.js";
import { serviceColour } from "./service-colour.js";
import { SpanDetails } from "./span-details.js";
import type { WatchedTrace } from "./trace-watch.js";
import { layOutWaterfall } from "./waterfall.js";
import { WaterfallTree } from "./waterfall-tree.js";

/** The trace beside the picture. */
export function TracePanel({ studio }: { studio: Studio }) {
  const offer = studio.connection.offer.value;
  const trace = studio.traces.trace.value;
  return (
    <section class="panel trace" aria-labelledby="trace-title">
      <div class="head">
        <h2 id="trace-title">Trace</h2>
        {trace !== undefined && <TraceLinks studio={studio} traceId={trace.traceId} />}
      </div>
      {offer?.hasTraces === false ? (
        <p class="muted">
          This pipeline has no collector to ask. <code>throughline dev</code> starts one beside it.
        </p>
      ) : trace === undefined ? (
        <p class="muted">Paint a picture, or choose one of the recent traces. Its spans appear here while they run.</p>
      ) : (
        <TraceBody studio={studio} trace={trace} />
      )}
    </section>
  );
}

function TraceLinks({ studio, traceId }: { studio: Studio; traceId: string }) {
  const { traceUrlTemplate = "", traceBackend = "" } = studio.connection.offer.value ?? {};
  return (
    <>
      <code class="trace-id" title={traceId}>
        {traceId}
      </code>
      <CopyButton label="Copy id" text={() => traceId} />
      {traceUrlTemplate !== "" && (
        <a href={traceUrlTemplate.replaceAll("{traceId}", traceId)} target="_blank" rel="noreferrer">
          Open in {traceBackend === "" ? "the backend" : traceBackend}
        </a>
      )}
    </>
  );
}

function TraceBody({ studio, trace }: { studio: Studio; trace: WatchedTrace }) {
  const growing = trace.watching && trace.spans.some(({ endUnixNano }) => endUnixNano === 0n);
  const now = useFrames(growing, trace.spans.length > 100) + studio.traces.aheadMs.value;
  const waterfall = useMemo(() => layOutWaterfall(trace.spans, now), [trace.spans, growing ? now : 0]);
  if (trace.spans.length === 0) {
    return (
      <p class="muted">
        {trace.watching
          ? "Waiting for the first span."
          : "The collector has no spans of this trace: it keeps the newest ones only, or the trace was not sampled."}
      </p>
    );
  }
  const services = [...new Set(waterfall.rows.map(({ span }) => span.service))];
  const selected = waterfall.rows.find(({ span }) => span.spanId === studio.selectedSpan.value);
  return (
    <>
      <p class="legend">
        {services.map((service) => (
          <span key={service}>
            <span
              class="swatch"
              style={{ background: `var(--service-${serviceColour(service)})` }}
              aria-hidden="true"
            />{" "}
            {service}
          </span>
        ))}
        <span class="muted figures">
          {waterfall.rows.length === 1 ? "1 span" : `${waterfall.rows.length} spans`} ·{" "}
          {formatDuration(waterfall.durationMs)}
          {waterfall.running ? " · running" : ""}
        </span>
      </p>
      <WaterfallTree waterfall={waterfall} selected={studio.selectedSpan} />
      {selected === undefined ? (
        <p class="muted hint">Choose a span for its attributes and events.</p>
      ) : (
        <SpanDetails row={selected} traceStartNano={startOf(trace)} />
      )}
    </>
  );
}

function startOf({ spans }: WatchedTrace): bigint {
  return spans.reduce(
    (first, { startUnixNano }) => (startUnixNano < first ? startUnixNano : first),
    spans[0]?.startUnixNano ?? 0n,
  );
}
