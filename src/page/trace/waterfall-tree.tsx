import type { Signal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { formatDuration, isError, serviceColour } from "../shell/format.js";
import { useTimeDrag } from "./time-drag.js";
import { type VisibleRow, type WaterfallChoice, type WaterfallView, zoomBetween, zoomTo } from "./waterfall-view.js";

interface WaterfallTreeProps {
  readonly view: WaterfallView;
  readonly choice: Signal<WaterfallChoice>;
  readonly selected: Signal<string | undefined>;
}

/** The spans as bars on one axis: a tree that is walked with the arrow keys. Dragging over the bars zooms. */
export function WaterfallTree({ view, choice, selected }: WaterfallTreeProps) {
  const { rows, axis } = view;
  const tree = useRef<HTMLDivElement>(null);
  const chosen = rows.findIndex(({ row }) => row.span.spanId === selected.value);

  const choose = (index: number | undefined) => {
    const visible = index === undefined ? undefined : rows[index];
    if (index !== undefined && visible !== undefined) {
      selected.value = visible.row.span.spanId;
      tree.current?.querySelectorAll<HTMLElement>("[role=treeitem]")[index]?.focus();
    }
  };
  const expand = (index: number, isExpanded: boolean) => {
    const spanId = rows[index]?.row.span.spanId;
    if (spanId !== undefined) {
      const collapsed = new Set(choice.value.collapsed);
      collapsed[isExpanded ? "delete" : "add"](spanId);
      choice.value = { ...choice.value, collapsed };
    }
  };
  const zoom = (range: WaterfallChoice["zoom"]) => {
    choice.value = { ...choice.value, zoom: range };
  };
  const drag = useTimeDrag((one, other) => {
    const { from, to } = choice.value.zoom ?? { from: 0, to: 1 };
    const at = (share: number) => from + share * (to - from);
    zoom(zoomBetween(at(one), at(other)) ?? choice.value.zoom);
  });
  const onKeyDown = (event: KeyboardEvent) => {
    const at = Math.max(0, chosen);
    const current = rows[at];
    const moves: Readonly<Record<string, () => void>> = {
      ArrowDown: () => choose(Math.min(rows.length - 1, at + 1)),
      ArrowUp: () => choose(Math.max(0, at - 1)),
      ArrowLeft: () => (current?.isExpanded ? expand(at, false) : choose(current?.parentRow)),
      ArrowRight: () => {
        if (current?.isExpanded === false) {
          expand(at, true);
        } else if (current?.isExpanded) {
          choose(at + 1);
        }
      },
      Home: () => choose(0),
      End: () => choose(rows.length - 1),
      Enter: () => choose(at),
      " ": () => choose(at),
      z: () => current && zoom(zoomTo(current.row) ?? choice.value.zoom),
      "0": () => zoom(undefined),
    };
    const move = event.ctrlKey || event.metaKey || event.altKey ? undefined : moves[event.key];
    if (move !== undefined) {
      event.preventDefault();
      move();
    }
  };

  return (
    <div class="waterfall">
      <div class="axis" aria-hidden="true">
        <div>
          {axis.map(({ share, label }) => (
            <span key={label} class={share < 0.03 ? "at-start" : ""} style={{ left: `${100 * share}%` }}>
              {label}
            </span>
          ))}
        </div>
      </div>
      <div role="tree" aria-label="Spans" ref={tree} onKeyDown={onKeyDown} class="rows" {...drag.handlers}>
        {rows.map((visible, index) => (
          <Row
            key={visible.row.span.spanId}
            visible={visible}
            axis={axis}
            isSelected={index === chosen}
            isEntry={index === Math.max(0, chosen)}
            onChoose={() => choose(index)}
            onExpand={(isExpanded) => expand(index, isExpanded)}
          />
        ))}
      </div>
      {drag.selection !== undefined && (
        <div class="lanes" aria-hidden="true">
          <span
            class="zoom-selection"
            style={{
              left: `${100 * drag.selection.from}%`,
              width: `${100 * (drag.selection.to - drag.selection.from)}%`,
            }}
          />
        </div>
      )}
    </div>
  );
}

interface RowProps {
  readonly visible: VisibleRow;
  readonly axis: WaterfallView["axis"];
  readonly isSelected: boolean;
  /** Whether the tabulator key comes in here. */
  readonly isEntry: boolean;
  readonly onChoose: () => void;
  readonly onExpand: (isExpanded: boolean) => void;
}

function Row({ visible, axis, isSelected, isEntry, onChoose, onExpand }: RowProps) {
  const { row, bar, events, isExpanded, isMatch } = visible;
  const { span, depth } = row;
  const duration = formatDuration(row.durationMs);
  const colour = `var(--service-${serviceColour(span.service)})`;
  const more = [
    span.service,
    ...(row.running ? ["running"] : []),
    ...(isError(span) ? ["failed"] : []),
    ...(row.events.length === 0 ? [] : [row.events.length === 1 ? "1 event" : `${row.events.length} events`]),
  ];
  const states = {
    "is-running": row.running,
    "is-error": isError(span),
    "is-match": isMatch,
    "is-other": isMatch === false,
  };
  const classes = Object.entries(states).flatMap(([name, holds]) => (holds ? [name] : []));
  return (
    // The keys are the tree's, because one of its items has the focus.
    // biome-ignore lint/a11y/useKeyWithClickEvents: the tree handles them
    <div
      role="treeitem"
      class={["row", ...classes].join(" ")}
      aria-level={depth + 1}
      aria-posinset={row.place}
      aria-setsize={row.places}
      aria-selected={isSelected}
      aria-expanded={isExpanded}
      tabIndex={isEntry ? 0 : -1}
      onClick={onChoose}
    >
      <span class="span-name" style={{ "--depth": String(Math.min(depth, 12)), "--colour": colour }}>
        {isExpanded !== undefined && (
          // For the pointer only: the arrow keys do the same, and the row has the state.
          <span
            class="twist"
            aria-hidden="true"
            onClick={(event) => {
              event.stopPropagation();
              onExpand(!isExpanded);
            }}
          />
        )}
        {span.name}
      </span>
      <span class="unseen">, {more.join(", ")}, </span>
      <span class="lane">
        {axis.map(({ share }) => (
          <span key={share} class="grid-line" style={{ left: `${100 * share}%` }} />
        ))}
        {bar !== undefined && (
          <span
            class="bar"
            style={{ left: `${100 * bar.startShare}%`, width: `${100 * bar.widthShare}%`, "--colour": colour }}
          />
        )}
        {[...events.entries()].map(([order, { name, share, atMs }]) => (
          <span
            key={order}
            class={name === "exception" ? "tick is-error" : "tick"}
            style={{ left: `${100 * share}%` }}
            title={`${name} at ${formatDuration(atMs)}`}
          />
        ))}
      </span>
      <span class="duration figures">{duration}</span>
    </div>
  );
}
