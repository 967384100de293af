import { attributeRows } from "../shell/format.js";
import { type AxisTick, axisOf, type EventTick, type Waterfall, type WaterfallRow } from "./waterfall.js";

/** Part of a trace's time, as shares of the whole, 0 to 1. */
export interface ZoomRange {
  readonly from: number;
  readonly to: number;
}

/** What is shown of a waterfall. */
export interface WaterfallChoice {
  /** Ids of the spans whose descendants are hidden. */
  readonly collapsed: ReadonlySet<string>;
  /** Search text; empty for none. */
  readonly query: string;
  /** Undefined for the whole trace. */
  readonly zoom: ZoomRange | undefined;
}

/** A visible row. Its shares are of the time that is shown. */
export interface VisibleRow {
  readonly row: WaterfallRow;
  /** Index of its parent among the visible rows; undefined for a root. */
  readonly parentRow: number | undefined;
  /** Its bar within the time that is shown; undefined if it is outside. */
  readonly bar: { readonly startShare: number; readonly widthShare: number } | undefined;
  /** Events within the time that is shown. */
  readonly events: readonly EventTick[];
  /** Undefined for a span without children. */
  readonly isExpanded: boolean | undefined;
  /** Whether the search finds it; undefined without a search. */
  readonly isMatch: boolean | undefined;
}

/** A waterfall as it is shown. */
export interface WaterfallView {
  readonly rows: readonly VisibleRow[];
  readonly axis: readonly AxisTick[];
  /** Indices among the visible rows of what the search finds. */
  readonly matches: readonly number[];
}

/** The whole trace. */
const whole: ZoomRange = { from: 0, to: 1 };

/**
 * Applies a choice to a waterfall. What the search finds is visible, also below a collapsed span.
 *
 * A search text without `=` is looked for in names, services, and names and values of attributes; `name=value` in one attribute. Letter case
 * does not matter.
 */
export function viewWaterfall(
  waterfall: Waterfall,
  { collapsed, query, zoom = whole }: WaterfallChoice,
): WaterfallView {
  const { rows, durationMs } = waterfall;
  const finds = matcherOf(query);
  const isMatch = rows.map((row) => finds?.(row));
  const leadsToMatch = ancestorsOf(rows, isMatch);
  const width = zoom.to - zoom.from;
  const zoomed = (share: number) => (share - zoom.from) / width;

  const visible: VisibleRow[] = [];
  /** Index among the visible rows; undefined for a hidden one. */
  const places: (number | undefined)[] = [];
  for (const [index, row] of rows.entries()) {
    const parent = row.parentRow;
    const isHidden =
      parent !== undefined &&
      (places[parent] === undefined ||
        (collapsed.has(rows[parent]?.span.spanId ?? "") && !(isMatch[index] === true || leadsToMatch.has(index))));
    if (isHidden) {
      places.push(undefined);
      continue;
    }
    places.push(visible.length);
    const start = Math.max(0, zoomed(row.startShare));
    const end = Math.min(1, zoomed(row.startShare + row.widthShare));
    const hasChildren = rows[index + 1]?.parentRow === index;
    visible.push({
      row,
      parentRow: parent === undefined ? undefined : places[parent],
      bar: end < start ? undefined : { startShare: start, widthShare: end - start },
      events: row.events
        .map((event) => ({ ...event, share: zoomed(event.share) }))
        .filter(({ share }) => share >= 0 && share <= 1),
      isExpanded: hasChildren ? !collapsed.has(row.span.spanId) || leadsToMatch.has(index) : undefined,
      isMatch: isMatch[index],
    });
  }
  return {
    rows: visible,
    axis: axisOf(zoom.from * durationMs, zoom.to * durationMs),
    matches: [...visible.keys()].filter((index) => visible[index]?.isMatch === true),
  };
}

/** The time of a span, with a margin on both sides; undefined for one that is too short to see anything in. */
export function zoomTo({ startShare, widthShare }: WaterfallRow): ZoomRange | undefined {
  const margin = widthShare * 0.05;
  return zoomBetween(startShare - margin, startShare + widthShare + margin);
}

/** Smallest part of a trace that can be shown. */
const minimumWidth = 1e-6;

/** The time between two places, in any order; undefined if they are too close to each other, or show the whole trace. */
export function zoomBetween(one: number, other: number): ZoomRange | undefined {
  const from = Math.max(0, Math.min(one, other));
  const to = Math.min(1, Math.max(one, other));
  return to - from < minimumWidth || (from === 0 && to === 1) ? undefined : { from, to };
}

function matcherOf(query: string): ((row: WaterfallRow) => boolean) | undefined {
  const text = query.trim().toLowerCase();
  if (text === "") {
    return undefined;
  }
  const has = (value: string, part: string) => value.toLowerCase().includes(part);
  const [name = "", ...rest] = text.split("=");
  const value = rest.join("=").trim();
  return ({ span }) => {
    const attributes = [span.attributes, ...span.events.map((event) => event.attributes)].flatMap(attributeRows);
    if (rest.length > 0) {
      return attributes.some((attribute) => has(attribute[0], name.trim()) && has(attribute[1], value));
    }
    const names = [span.name, span.service, span.statusMessage, ...span.events.map((event) => event.name)];
    return [...names, ...attributes.flat()].some((each) => has(each, text));
  };
}

/** Indices of the rows with a match below them. */
function ancestorsOf(rows: readonly WaterfallRow[], isMatch: readonly (boolean | undefined)[]): ReadonlySet<number> {
  const found = new Set<number>();
  // Children stand after their parents.
  for (let index = rows.length - 1; index >= 0; index--) {
    const parent = rows[index]?.parentRow;
    if (parent !== undefined && (isMatch[index] === true || found.has(index))) {
      found.add(parent);
    }
  }
  return found;
}
