import { useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { otlpJsonOf } from "../../otlp-json/otlp-json.js";
import type { HistoryEntry } from "../image/history.js";
import { CopyButton, downloadText } from "../shell/copy-button.js";
import { attributeRows, formatAge, formatDuration, isError, serviceColour } from "../shell/format.js";
import { useFrames, useNow, useObjectUrl } from "../shell/hooks.js";
import type { Studio } from "../shell/studio.js";
import { isGrowing, type WatchedTrace } from "./trace-watch.js";
import { layOutWaterfall, type WaterfallRow } from "./waterfall.js";
import { WaterfallToolbar } from "./waterfall-toolbar.js";
import { WaterfallTree } from "./waterfall-tree.js";
import { viewWaterfall, type WaterfallChoice } from "./waterfall-view.js";

/** The trace beside the image. */
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
        <p class="muted">
          Generate an image, or choose one of the recent traces. Its spans appear here while they run.
        </p>
      ) : (
        <TraceBody key={trace.traceId} studio={studio} trace={trace} />
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
  const growth = isGrowing(trace, studio.connection.state.value.kind === "live");
  const growing = growth === "yes";
  const now = useFrames(growing, trace.spans.length > 100) + studio.traces.aheadMs.value;
  const waterfall = useMemo(() => layOutWaterfall(trace.spans, now), [trace.spans, growing ? now : 0]);
  const choice = useSignal<WaterfallChoice>({ collapsed: new Set(), query: "", zoom: undefined });
  const view = useMemo(() => viewWaterfall(waterfall, choice.value), [waterfall, choice.value]);
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
          {{ yes: " · running", unknown: " · no updates", no: "" }[growth]}
        </span>
      </p>
      {waterfall.rows.length > 1 && <WaterfallToolbar choice={choice} view={view} selected={studio.selectedSpan} />}
      <WaterfallTree view={view} choice={choice} selected={studio.selectedSpan} />
      {selected === undefined ? (
        <p class="muted hint">Choose a span for its attributes and events.</p>
      ) : (
        <SpanDetails row={selected} traceStartNano={startOf(trace)} />
      )}
      <TraceExport trace={trace} />
    </>
  );
}

/** The trace for another backend, as far as it is known now. */
function TraceExport({ trace }: { trace: WatchedTrace }) {
  const text = () => JSON.stringify(otlpJsonOf(trace.spans), null, 2);
  const download = () => downloadText(text(), { name: `trace-${trace.traceId}.json`, type: "application/json" });
  return (
    <div class="copies">
      <CopyButton label="Copy as OTLP JSON" text={text} />
      <button type="button" class="quiet" onClick={download}>
        Download OTLP JSON
      </button>
    </div>
  );
}

function startOf({ spans }: WatchedTrace): bigint {
  return spans.reduce(
    (first, { startUnixNano }) => (startUnixNano < first ? startUnixNano : first),
    spans[0]?.startUnixNano ?? 0n,
  );
}

/** Facts, attributes and events of a span. */
export function SpanDetails({ row, traceStartNano }: { row: WaterfallRow; traceStartNano: bigint }) {
  const { span, durationMs, running } = row;
  const sinceStart = (nano: bigint) => formatDuration(Number(nano - traceStartNano) / 1e6);
  const facts = [
    ["service", span.service],
    ["kind", span.kind],
    ["began at", sinceStart(span.startUnixNano)],
    [running ? "running for" : "duration", formatDuration(durationMs)],
    ["span id", span.spanId],
    ...(isError(span) ? [["status", `ERROR ${span.statusMessage}`.trim()]] : []),
  ] as const;
  const attributes = attributeRows(span.attributes);
  return (
    <section class="details" aria-label={`Span ${span.name}`}>
      <h3>{span.name}</h3>
      <dl class={isError(span) ? "facts is-error" : "facts"}>
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <div class="two">
        {attributes.length > 0 && (
          <div>
            <h4>Attributes</h4>
            <Attributes rows={attributes} />
          </div>
        )}
        {span.events.length > 0 && (
          <div>
            <h4>Events</h4>
            <ol class="events">
              {[...span.events.entries()].map(([order, event]) => (
                <li key={order}>
                  <span class="figures muted">{sinceStart(event.timeUnixNano)}</span> <strong>{event.name}</strong>
                  <Attributes rows={attributeRows(event.attributes)} />
                </li>
              ))}
            </ol>
          </div>
        )}
      </div>
    </section>
  );
}

function Attributes({ rows }: { rows: ReturnType<typeof attributeRows> }) {
  return rows.length === 0 ? null : (
    <dl class="attributes">
      {rows.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

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
                <TraceThumbnail entry={studio.history.entries.value.find(({ traceId }) => traceId === trace.traceId)} />
                <span class="trace-name">{trace.name}</span>
                <code class="muted">{trace.traceId.slice(0, 8)}</code>
                <span class={trace.errorCount > 0 ? "wrong" : "muted"}>{stateLabel(trace)}</span>
                <time class="muted figures clock" dateTime={new Date(Number(trace.startUnixNano) / 1e6).toISOString()}>
                  {new Date(Number(trace.startUnixNano) / 1e6).toLocaleTimeString()}
                </time>
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

/** Thumbnail of the image that the request made, if this browser has it. */
function TraceThumbnail({ entry }: { entry: HistoryEntry | undefined }) {
  const url = useObjectUrl(entry?.thumbnail);
  return url === undefined ? <span /> : <img class="trace-thumbnail" src={url} alt="" loading="lazy" />;
}

function stateLabel({
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
