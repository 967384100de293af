import type { Signal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { formatDuration, isError, serviceColour } from "../shell/format.js";
import type { Waterfall, WaterfallRow } from "./waterfall.js";

/** The spans as bars on one axis: a tree that is walked with the arrow keys. */
export function WaterfallTree({ waterfall, selected }: { waterfall: Waterfall; selected: Signal<string | undefined> }) {
  const { rows, axis } = waterfall;
  const tree = useRef<HTMLDivElement>(null);
  const chosen = rows.findIndex(({ span }) => span.spanId === selected.value);

  const choose = (index: number | undefined) => {
    const row = index === undefined ? undefined : rows[index];
    if (index !== undefined && row !== undefined) {
      selected.value = row.span.spanId;
      tree.current?.querySelectorAll<HTMLElement>("[role=treeitem]")[index]?.focus();
    }
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const at = Math.max(0, chosen);
    const moves: Readonly<Record<string, number | undefined>> = {
      ArrowDown: Math.min(rows.length - 1, at + 1),
      ArrowUp: Math.max(0, at - 1),
      ArrowLeft: rows[at]?.parentRow,
      ArrowRight: rows[at + 1]?.parentRow === at ? at + 1 : undefined,
      Home: 0,
      End: rows.length - 1,
      Enter: at,
      " ": at,
    };
    if (event.key in moves) {
      event.preventDefault();
      choose(moves[event.key]);
    }
  };

  return (
    <div class="waterfall">
      <div class="axis" aria-hidden="true">
        <div>
          {axis.map(({ share, label }) => (
            <span key={label} style={{ left: `${100 * share}%` }}>
              {label}
            </span>
          ))}
        </div>
      </div>
      <div role="tree" aria-label="Spans" ref={tree} onKeyDown={onKeyDown} class="rows">
        {rows.map((row, index) => (
          <Row
            key={row.span.spanId}
            row={row}
            axis={waterfall.axis}
            isSelected={index === chosen}
            isEntry={index === Math.max(0, chosen)}
            onChoose={() => choose(index)}
          />
        ))}
      </div>
    </div>
  );
}

interface RowProps {
  readonly row: WaterfallRow;
  readonly axis: Waterfall["axis"];
  readonly isSelected: boolean;
  /** Whether the tabulator key comes in here. */
  readonly isEntry: boolean;
  readonly onChoose: () => void;
}

function Row({ row, axis, isSelected, isEntry, onChoose }: RowProps) {
  const { span, depth, startShare, widthShare } = row;
  const duration = formatDuration(row.durationMs);
  const colour = `var(--service-${serviceColour(span.service)})`;
  const more = [
    span.service,
    ...(row.running ? ["running"] : []),
    ...(isError(span) ? ["failed"] : []),
    ...(row.events.length === 0 ? [] : [row.events.length === 1 ? "1 event" : `${row.events.length} events`]),
  ];
  return (
    // The keys are the tree's, because one of its items has the focus.
    // biome-ignore lint/a11y/useKeyWithClickEvents: the tree handles them
    <div
      role="treeitem"
      class={`row${row.running ? " is-running" : ""}${isError(span) ? " is-error" : ""}`}
      aria-level={depth + 1}
      aria-posinset={row.place}
      aria-setsize={row.places}
      aria-selected={isSelected}
      tabIndex={isEntry ? 0 : -1}
      onClick={onChoose}
    >
      <span class="span-name" style={{ "--depth": String(Math.min(depth, 12)), "--colour": colour }}>
        {span.name}
      </span>
      <span class="unseen">, {more.join(", ")}, </span>
      <span class="lane">
        {axis.map(({ share }) => (
          <span key={share} class="grid-line" style={{ left: `${100 * share}%` }} />
        ))}
        <span class="bar" style={{ left: `${100 * startShare}%`, width: `${100 * widthShare}%`, "--colour": colour }} />
        {[...row.events.entries()].map(([order, { name, share, atMs }]) => (
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
