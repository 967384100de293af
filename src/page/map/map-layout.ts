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
  /** Where its figures stand: the middle of the way. */
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

interface Call {
  readonly caller: string;
  readonly callee: string;
}

/**
 * Lays out apps in layers, callers before those they call: each stands one layer after the last of its callers (Sugiyama's way, without
 * nodes in between). In a circle of calls the one that closes it runs back. An app's calls of itself are left out.
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
  const edges = calls.filter(({ caller, callee }) => caller !== callee && known.has(caller) && known.has(callee));
  const layers = orderLayers(layersOf(names, edges), edges);
  const along = direction === "across" ? sizes.node.width : sizes.node.height;
  const beside = direction === "across" ? sizes.node.height : sizes.node.width;
  const breadth = (count: number) => count * beside + (count - 1) * sizes.nodeGap;
  const widest = Math.max(0, ...layers.map((layer) => breadth(layer.length)));

  const places = new Map<string, PlacedNode>();
  for (const [number, layer] of layers.entries()) {
    const forward = number * (along + sizes.layerGap);
    for (const [index, name] of layer.entries()) {
      const sideways = (widest - breadth(layer.length)) / 2 + index * (beside + sizes.nodeGap);
      places.set(name, direction === "across" ? { name, x: forward, y: sideways } : { name, x: sideways, y: forward });
    }
  }
  const length = layers.length === 0 ? 0 : layers.length * along + (layers.length - 1) * sizes.layerGap;
  return {
    nodes: [...places.values()],
    edges: edges.flatMap((edge) => {
      const from = places.get(edge.caller);
      const to = places.get(edge.callee);
      return from === undefined || to === undefined ? [] : [{ ...edge, ...wayOf(from, to, direction, sizes) }];
    }),
    width: direction === "across" ? length : widest,
    height: direction === "across" ? widest : length,
  };
}

/** The apps by how many calls lie between them and the first of their callers, on the longest way that is no circle. */
function layersOf(names: readonly string[], edges: readonly Call[]): string[][] {
  const callees = new Map<string, string[]>();
  for (const { caller, callee } of edges) {
    callees.set(caller, [...(callees.get(caller) ?? []), callee]);
  }
  const called = new Set(edges.map(({ callee }) => callee));
  const depth = new Map<string, number>();
  const visit = (name: string, level: number, way: ReadonlySet<string>): void => {
    if (way.has(name) || (depth.get(name) ?? -1) >= level) {
      return;
    }
    depth.set(name, level);
    for (const callee of callees.get(name) ?? []) {
      visit(callee, level + 1, new Set([...way, name]));
    }
  };
  // Those that nobody calls come first; what is left then is called in a circle only.
  for (const name of [...names.filter((each) => !called.has(each)), ...names]) {
    if (!depth.has(name)) {
      visit(name, 0, new Set());
    }
  }
  const layers: string[][] = Array.from({ length: 1 + Math.max(-1, ...depth.values()) }, () => []);
  for (const [name, level] of depth) {
    layers[level]?.push(name);
  }
  return layers.filter((layer) => layer.length > 0);
}

/** In each layer the apps stand in the order of the middle of their callers, so that calls cross little. */
function orderLayers(layers: readonly (readonly string[])[], edges: readonly Call[]): string[][] {
  const place = new Map<string, number>();
  return layers.map((layer) => {
    const middle = (name: string) => {
      const callers = edges.filter(({ callee }) => callee === name).map(({ caller }) => place.get(caller) ?? 0);
      return callers.length === 0 ? 0 : callers.reduce((sum, each) => sum + each, 0) / callers.length;
    };
    const ordered = [...layer].sort((a, b) => middle(a) - middle(b) || a.localeCompare(b));
    for (const [index, name] of ordered.entries()) {
      place.set(name, index - (ordered.length - 1) / 2);
    }
    return ordered;
  });
}

function wayOf(from: PlacedNode, to: PlacedNode, direction: MapDirection, { node, nodeGap }: MapSizes) {
  const across = direction === "across";
  const forward = across ? to.x > from.x : to.y > from.y;
  const half = { x: node.width / 2, y: node.height / 2 };
  if (forward) {
    const start = across ? [from.x + node.width, from.y + half.y] : [from.x + half.x, from.y + node.height];
    const end = across ? [to.x, to.y + half.y] : [to.x + half.x, to.y];
    return curve(start, end, across ? "x" : "y");
  }
  // Back, or beside: around the far side, in the gap between the rows.
  const start = across ? [from.x + half.x, from.y + node.height] : [from.x + node.width, from.y + half.y];
  const end = across ? [to.x + half.x, to.y + node.height] : [to.x + node.width, to.y + half.y];
  const out = nodeGap * 0.7;
  const [sx = 0, sy = 0] = start;
  const [ex = 0, ey = 0] = end;
  const path = across
    ? `M${sx},${sy} C${sx},${sy + out} ${ex},${ey + out} ${ex},${ey}`
    : `M${sx},${sy} C${sx + out},${sy} ${ex + out},${ey} ${ex},${ey}`;
  const bulge = out * 0.75;
  return { path, labelX: (sx + ex) / 2 + (across ? 0 : bulge), labelY: (sy + ey) / 2 + (across ? bulge : 0) };
}

function curve([sx = 0, sy = 0]: readonly number[], [ex = 0, ey = 0]: readonly number[], along: "x" | "y") {
  const [mx, my] = [(sx + ex) / 2, (sy + ey) / 2];
  const path =
    along === "x"
      ? `M${sx},${sy} C${mx},${sy} ${mx},${ey} ${ex},${ey}`
      : `M${sx},${sy} C${sx},${my} ${ex},${my} ${ex},${ey}`;
  return { path, labelX: mx, labelY: my };
}
