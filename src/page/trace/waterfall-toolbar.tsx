import type { Signal } from "@preact/signals";
import type { WaterfallRow } from "./waterfall.js";
import { type WaterfallChoice, type WaterfallView, zoomTo } from "./waterfall-view.js";

interface WaterfallToolbarProps {
  readonly choice: Signal<WaterfallChoice>;
  readonly view: WaterfallView;
  readonly selected: Signal<string | undefined>;
}

/** Search in the spans, and the part of the time that is shown. */
export function WaterfallToolbar({ choice, view, selected }: WaterfallToolbarProps) {
  const { query, zoom, collapsed } = choice.value;
  const { rows, matches } = view;
  const change = (part: Partial<WaterfallChoice>) => {
    choice.value = { ...choice.value, ...part };
  };
  const at = rows.findIndex(({ row }) => row.span.spanId === selected.value);
  const place = matches.indexOf(at);
  const go = (by: 1 | -1) => {
    const next =
      by === 1
        ? (matches.find((index) => index > at) ?? matches[0])
        : (matches.findLast((index) => index < at) ?? matches.at(-1));
    selected.value = next === undefined ? selected.value : rows[next]?.row.span.spanId;
  };
  const zoomed = zoomOf(rows[at]?.row);
  return (
    <div class="waterfall-tools">
      <input
        type="search"
        aria-label="Search spans"
        placeholder="Search: name, service, seed=42"
        title="Text in names, services and attributes, or name=value in one attribute"
        value={query}
        onInput={(event) => change({ query: event.currentTarget.value })}
        onKeyDown={(event) => {
          if (event.key === "Enter") {
            event.preventDefault();
            go(event.shiftKey ? -1 : 1);
          }
        }}
      />
      {query.trim() !== "" && (
        <>
          <span class="muted figures" role="status">
            {matches.length === 0 ? "no span" : `${place < 0 ? "" : `${place + 1} of `}${matches.length}`}
          </span>
          <button type="button" class="quiet" aria-label="Previous match" onClick={() => go(-1)}>
            ↑
          </button>
          <button type="button" class="quiet" aria-label="Next match" onClick={() => go(1)}>
            ↓
          </button>
        </>
      )}
      <span class="push" />
      {collapsed.size > 0 && (
        <button type="button" class="quiet" onClick={() => change({ collapsed: new Set() })}>
          Expand all
        </button>
      )}
      {zoomed !== undefined && (
        <button type="button" class="quiet" title="Key: z" onClick={() => change({ zoom: zoomed })}>
          Zoom to span
        </button>
      )}
      {zoom !== undefined && (
        <button type="button" class="quiet" title="Key: 0" onClick={() => change({ zoom: undefined })}>
          Whole trace
        </button>
      )}
    </div>
  );
}

function zoomOf(row: WaterfallRow | undefined) {
  return row && zoomTo(row);
}
