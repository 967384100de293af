import { formatDuration } from "../shell/duration-text.js";
import { attributeRows, isError } from "./span-text.js";
import type { WaterfallRow } from "./waterfall.js";

/** All that a span says. */
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
