import assert from "node:assert/strict";
import test from "node:test";
import { layOutMap, type MapDirection, type MapSizes } from "../../src/page/map/map-layout.js";

const sizes: MapSizes = { node: { width: 100, height: 40 }, layerGap: 60, nodeGap: 20 };
const calls = (...pairs: string[]) =>
  pairs.map((pair) => ({ caller: pair.split(">")[0] ?? "", callee: pair.split(">")[1] ?? "" }));
const lay = (names: string[], edges: string[], direction: MapDirection = "across") =>
  layOutMap(names, calls(...edges), direction, sizes);
const at = (layout: ReturnType<typeof lay>, name: string) => layout.nodes.find((node) => node.name === name);

test("caller is placed before the app that it calls", () => {
  const layout = lay(["pipeline", "worker"], ["pipeline>worker"]);
  assert.deepEqual(at(layout, "pipeline"), { name: "pipeline", x: 0, y: 0 });
  assert.deepEqual(at(layout, "worker"), { name: "worker", x: 160, y: 0 });
  assert.deepEqual([layout.width, layout.height], [260, 40]);
  assert.deepEqual(layout.edges[0]?.path, "M100,20 C130,20 130,20 160,20");
  assert.deepEqual([layout.edges[0]?.labelX, layout.edges[0]?.labelY], [130, 20]);
});

test("graph can be laid out downwards", () => {
  const layout = lay(["pipeline", "worker"], ["pipeline>worker"], "down");
  assert.deepEqual(at(layout, "worker"), { name: "worker", x: 0, y: 100 });
  assert.deepEqual([layout.width, layout.height], [100, 140]);
});

test("app is placed after the last of its callers", () => {
  const layout = lay(["a", "b", "c"], ["a>b", "b>c", "a>c"]);
  assert.deepEqual(
    ["a", "b", "c"].map((name) => at(layout, name)?.x),
    [0, 160, 320],
  );
});

test("layer is centered and ordered by its callers", () => {
  const layout = lay(["top", "left", "right", "x", "y"], ["top>left", "top>right", "left>y", "right>x"]);
  const ys = (name: string) => at(layout, name)?.y ?? -1;
  assert.equal(ys("top"), 30);
  assert.ok(ys("left") < ys("right"));
  assert.ok(ys("y") < ys("x"), "the callee of the upper one stands above");
});

test("layout handles cycles, self calls and calls of unknown apps", () => {
  const layout = lay(["a", "b", "c"], ["a>b", "b>a", "c>c", "a>away"]);
  assert.equal(layout.nodes.length, 3);
  assert.deepEqual(
    layout.edges.map(({ caller, callee }) => `${caller}>${callee}`),
    ["a>b", "b>a"],
  );
  assert.notEqual(layout.edges[0]?.path, layout.edges[1]?.path);
});

test("eight apps do not overlap and are within the layout", () => {
  const names = [..."abcdefgh"];
  for (const direction of ["across", "down"] as const) {
    const layout = lay(names, ["a>b", "a>c", "a>d", "b>e", "c>e", "d>f", "e>g", "f>g", "g>b"], direction);
    const places = new Set(layout.nodes.map(({ x, y }) => `${x},${y}`));
    assert.equal(places.size, 8);
    for (const { x, y } of layout.nodes) {
      assert.ok(x >= 0 && y >= 0 && x + 100 <= layout.width && y + 40 <= layout.height);
    }
  }
});

test("layout without apps is empty", () => {
  assert.deepEqual(lay([], []), { nodes: [], edges: [], width: 0, height: 0 });
});
