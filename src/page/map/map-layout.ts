/** Which way the map reads. */
export type MapDirection = "across" | "down";

/** Sizes of the map, in pixels. */
export interface MapSizes {
  readonly node: { readonly width: number; readonly height: number };
  /** Between two layers: where the calls and their figures are drawn. */
  readonly layerGap: number;
  /** Between two nodes of a layer. */
  readonly nodeGap: number;
}

/** An app with its place: its upper left corner. */
export interface PlacedNode {
  readonly name: string;
  readonly x: number;
  readonly y: number;
}

/** A call with its way. */
export interface PlacedEdge {
  readonly caller: string;
  readonly callee: string;
  /** SVG path from the caller's edge to the callee's. */
  readonly path: string;
  /** Where its figures stand. */
  readonly labelX: number;
  readonly labelY: number;
}

/** A map with the place of everything. */
export interface MapLayout {
  readonly nodes: readonly PlacedNode[];
  readonly edges: readonly PlacedEdge[];
  readonly width: number;
  readonly height: number;
}

/** Along the map's direction and beside it; turned into x and y at the very end. */
interface Point {
  readonly along: number;
  readonly beside: number;
}

/** Breadth of a passage, in pixels. */
const passage = 24;

/**
 * Gives apps and calls their places. An app's calls of itself are left out.
 *
 * @param names of all apps; calls of others are left out.
 */
export function layOutMap(
  names: readonly string[],
  calls: readonly Call[],
  direction: MapDirection,
  sizes: MapSizes,
): MapLayout {
  const known = new Set(names);
  const drawn = calls.filter(({ caller, callee }) => caller !== callee && known.has(caller) && known.has(callee));
  const { layers, ways } = layOutLayers(names, drawn);
  const { width, height } = sizes.node;
  const [thickness, breadth] = direction === "across" ? [width, height] : [height, width];
  const breadthOf = ({ kind }: Slot) => (kind === "app" ? breadth : passage);
  const widthOf = (layer: readonly Slot[]) =>
    layer.reduce((sum, slot) => sum + breadthOf(slot), 0) + (layer.length - 1) * sizes.nodeGap;
  const widest = Math.max(0, ...layers.map(widthOf));

  /** The middle of each slot's first side. */
  const slots = new Map<string, Point>();
  for (const [number, layer] of layers.entries()) {
    let beside = (widest - widthOf(layer)) / 2;
    for (const slot of layer) {
      slots.set(slot.id, { along: number * (thickness + sizes.layerGap), beside: beside + breadthOf(slot) / 2 });
      beside += breadthOf(slot) + sizes.nodeGap;
    }
  }
  const toXY = ({ along, beside }: Point) =>
    direction === "across" ? { x: along, y: beside } : { x: beside, y: along };
  const count = (side: keyof Call, name: string) => drawn.filter((call) => call[side] === name).length;

  const edges = [...ways].map(([call, way]) => {
    const points = way.flatMap((id) => slots.get(id) ?? []);
    const crowd = count("caller", call.caller) - count("callee", call.callee);
    const { path, label } = drawWay(points, Math.sign(crowd), thickness, breadth, sizes, toXY);
    const { x, y } = toXY(label);
    return { ...call, path, labelX: x, labelY: y };
  });
  const length = Math.max(0, layers.length * (thickness + sizes.layerGap) - sizes.layerGap);
  const { x, y } = toXY({ along: length, beside: widest });
  return {
    nodes: names.map((name) => {
      const { along, beside } = slots.get(name) ?? { along: 0, beside: 0 };
      return { name, ...toXY({ along, beside: beside - breadth / 2 }) };
    }),
    edges,
    width: x,
    height: y,
  };
}

/**
 * The curve through the points of a call.
 *
 * @param crowd where the label finds room: 1 near the callee, because the caller has more calls, -1 near the caller, 0 in the middle.
 */
function drawWay(
  points: readonly Point[],
  crowd: number,
  thickness: number,
  breadth: number,
  { layerGap, nodeGap }: MapSizes,
  toXY: (point: Point) => { readonly x: number; readonly y: number },
): { readonly path: string; readonly label: Point } {
  const text = (point: Point) => {
    const { x, y } = toXY(point);
    return `${x},${y}`;
  };
  const first = points[0] ?? { along: 0, beside: 0 };
  const last = points.at(-1) ?? first;
  if (last.along <= first.along) {
    // Back, or beside: around the far side, in the gap between the rows.
    const out = breadth / 2 + nodeGap * 0.7;
    const [from, to] = [first, last].map(({ along, beside }) => ({
      along: along + thickness / 2,
      beside: beside + breadth / 2,
    }));
    const [a = first, b = last] = [from, to];
    const [c, d] = [first, last].map(({ along, beside }) => ({ along: along + thickness / 2, beside: beside + out }));
    return {
      path: `M${text(a)} C${text(c ?? a)} ${text(d ?? b)} ${text(b)}`,
      label: { along: (a.along + b.along) / 2, beside: (a.beside + b.beside) / 2 + nodeGap * 0.5 },
    };
  }
  const start = { along: first.along + thickness, beside: first.beside };
  let path = `M${text(start)}`;
  let at = start;
  for (const [index, point] of points.slice(1).entries()) {
    const middle = (at.along + point.along) / 2;
    path += ` C${text({ along: middle, beside: at.beside })} ${text({ along: middle, beside: point.beside })} ${text(point)}`;
    at = point;
    if (index < points.length - 2) {
      at = { along: point.along + thickness, beside: point.beside };
      path += ` L${text(at)}`;
    }
  }
  const label =
    crowd === 0 && points.length === 2
      ? { along: (start.along + last.along) / 2, beside: (start.beside + last.beside) / 2 }
      : crowd > 0
        ? { along: last.along - layerGap / 2, beside: last.beside }
        : { along: start.along + layerGap / 2, beside: start.beside };
  return { path, label };
}

/** A call from one app to another. */
export interface Call {
  readonly caller: string;
  readonly callee: string;
}

/** A place in a layer: an app, or where a call passes by on its way to a later layer. */
export interface Slot {
  /** The app's name, or one of the call's own. */
  readonly id: string;
  readonly kind: "app" | "passage";
}

/** Apps in layers, callers before those they call, and the slots that each call goes through. */
export interface MapLayers {
  readonly layers: readonly (readonly Slot[])[];
  /** For each call the ids of its slots, from the caller to the callee: more than two where it passes layers by. */
  readonly ways: ReadonlyMap<Call, readonly string[]>;
}

/**
 * Sorts apps into layers after Sugiyama: each stands one layer after the last of its callers, a call over more than one layer has a passage in
 * each between, and a layer stands in the order of the middle of what leads to it, so that calls cross little and pass behind no app.
 *
 * @param calls none of an app by itself, and of known apps only. In a circle of calls the one that closes it runs back.
 */
export function layOutLayers(names: readonly string[], calls: readonly Call[]): MapLayers {
  const levels = levelsOf(names, calls);
  const layers: Slot[][] = Array.from({ length: 1 + Math.max(-1, ...levels.values()) }, () => []);
  for (const [id, level] of levels) {
    layers[level]?.push({ id, kind: "app" });
  }
  const ways = new Map(
    calls.map((call) => {
      const from = levels.get(call.caller) ?? 0;
      const to = levels.get(call.callee) ?? 0;
      const passages = Array.from({ length: Math.max(0, to - from - 1) }, (_, index) => {
        const id = `${call.caller} > ${call.callee} at ${index}`;
        layers[from + 1 + index]?.push({ id, kind: "passage" });
        return id;
      });
      return [call, [call.caller, ...passages, call.callee]] as const;
    }),
  );
  return { layers: inOrder(layers, [...ways.values()]), ways };
}

/** How many calls lie between an app and the first of its callers, on the longest way that is no circle. */
function levelsOf(names: readonly string[], calls: readonly Call[]): ReadonlyMap<string, number> {
  const callees = new Map<string, string[]>();
  for (const { caller, callee } of calls) {
    callees.set(caller, [...(callees.get(caller) ?? []), callee]);
  }
  const called = new Set(calls.map(({ callee }) => callee));
  const levels = new Map<string, number>();
  const visit = (name: string, level: number, way: ReadonlySet<string>): void => {
    if (way.has(name) || (levels.get(name) ?? -1) >= level) {
      return;
    }
    levels.set(name, level);
    for (const callee of callees.get(name) ?? []) {
      visit(callee, level + 1, new Set([...way, name]));
    }
  };
  // Those without callers come first; what is left then is called in a circle only.
  for (const name of [...names.filter((each) => !called.has(each)), ...names]) {
    if (!levels.has(name)) {
      visit(name, 0, new Set());
    }
  }
  return levels;
}

function inOrder(layers: readonly (readonly Slot[])[], ways: readonly (readonly string[])[]): Slot[][] {
  const before = new Map<string, string[]>();
  for (const way of ways) {
    for (const [index, id] of way.slice(1).entries()) {
      before.set(id, [...(before.get(id) ?? []), way[index] ?? ""]);
    }
  }
  const place = new Map<string, number>();
  return layers.map((layer) => {
    const middle = ({ id }: Slot) => {
      const places = (before.get(id) ?? []).map((each) => place.get(each) ?? 0);
      return places.length === 0 ? 0 : places.reduce((sum, each) => sum + each, 0) / places.length;
    };
    const ordered = [...layer].sort((a, b) => middle(a) - middle(b) || a.id.localeCompare(b.id));
    for (const [index, { id }] of ordered.entries()) {
      place.set(id, index - (ordered.length - 1) / 2);
    }
    return ordered;
  });
}
