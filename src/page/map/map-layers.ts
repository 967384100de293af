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
  // Those that nobody calls come first; what is left then is called in a circle only.
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
