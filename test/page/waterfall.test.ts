import assert from "node:assert/strict";
import test, { describe } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { SpanSchema } from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { layOutMap, type MapDirection, type MapSizes } from "../../src/page/map/map-layout.js";
import { layOutWaterfall } from "../../src/page/trace/waterfall.js";
import { viewWaterfall, type WaterfallChoice, zoomBetween, zoomTo } from "../../src/page/trace/waterfall-view.js";
import { buildTraceTree, depthFirst } from "../../src/studio/trace-tree.js";
import { makeSpan } from "../support/make-span.js";

const startMs = 1_700_000_000_000;
const nano = (ms: number) => BigInt(startMs) * 1_000_000n + BigInt(Math.round(ms * 1e6));

function span(
  name: string,
  parent: string,
  fromMs: number,
  toMs: number | undefined,
  more: MessageInitShape<typeof SpanSchema> = {},
) {
  return create(SpanSchema, {
    spanId: name,
    name,
    parentSpanId: parent,
    startUnixNano: nano(fromMs),
    endUnixNano: toMs === undefined ? 0n : nano(toMs),
    ...more,
  });
}

const image = [
  span("upload", "inference", 90, 95),
  span("inference", "root", 10, 96),
  span("call", "root", 5, 98),
  span("diffusion", "inference", 12, 88, { events: [{ name: "denoising", timeUnixNano: nano(20) }] }),
  span("root", "", 0, 100),
  span("preprocess", "root", 1, 2),
];

const diffusionData: MessageInitShape<typeof SpanSchema> = {
  events: [{ name: "denoising", timeUnixNano: nano(20) }],
  attributes: { "diffusion.seed": { kind: { case: "numberValue", value: 42 } } },
};
const all: WaterfallChoice = { collapsed: new Set(), query: "", zoom: undefined };

test("waterfall places parents before children, and children by start time", () => {
  const { rows, durationMs, running } = layOutWaterfall(image, startMs + 100);
  assert.deepEqual(
    rows.map(({ span: { name }, depth, place, places, parentRow }) => [name, depth, `${place}/${places}`, parentRow]),
    [
      ["root", 0, "1/1", undefined],
      ["preprocess", 1, "1/3", 0],
      ["call", 1, "2/3", 0],
      ["inference", 1, "3/3", 0],
      ["diffusion", 2, "1/2", 3],
      ["upload", 2, "2/2", 3],
    ],
  );
  assert.equal(durationMs, 100);
  assert.equal(running, false);
});

test("bars and events are to scale", () => {
  const diffusion = layOutWaterfall(image, startMs + 100).rows[4];
  assert.ok(diffusion !== undefined);
  assert.equal(diffusion.startShare, 0.12);
  assert.ok(Math.abs(diffusion.widthShare - 0.76) < 1e-9);
  assert.equal(diffusion.durationMs, 76);
  assert.deepEqual(diffusion.events, [{ name: "denoising", share: 0.2, atMs: 20 }]);
});

test("running span ends now and never before its start", () => {
  const spans = [span("root", "", 0, undefined), span("child", "root", 40, undefined)];
  const later = layOutWaterfall(spans, startMs + 80);
  assert.deepEqual(
    later.rows.map((row) => [row.durationMs, row.running]),
    [
      [80, true],
      [40, true],
    ],
  );
  assert.equal(later.running, true);
  assert.equal(layOutWaterfall(spans, startMs - 500).rows[1]?.durationMs, 0);
});

test("time axis starts with the first span, also for an earlier clock", () => {
  const { durationMs, rows } = layOutWaterfall([span("root", "", 0, 4)], startMs - 4_500);
  assert.equal(durationMs, 4);
  assert.deepEqual([rows[0]?.startShare, rows[0]?.widthShare], [0, 1]);
});

test("of two spans that start in the same millisecond the one that ended first is first", () => {
  const spans = [span("a-long", "root", 1, 90), span("b-short", "root", 1, 2), span("root", "", 0, 100)];
  assert.deepEqual(
    layOutWaterfall(spans, startMs).rows.map((row) => row.span.name),
    ["root", "b-short", "a-long"],
  );
});

test("spans with missing parents or parent cycles are not lost", () => {
  const spans = [span("orphan", "away", 5, 6), span("a", "b", 1, 2), span("b", "a", 1, 3)];
  const { rows } = layOutWaterfall(spans, startMs);
  assert.deepEqual(rows.map((row) => row.span.name).sort(), ["a", "b", "orphan"]);
});

test("page and command line draw the same tree, also for spans of the same millisecond", () => {
  const id = (index: number) => index.toString(16).padStart(16, "0");
  let drawn = 1;
  const draw = (below: number) => {
    drawn = (drawn * 48271) % 2147483647;
    return drawn % below;
  };
  for (let round = 0; round < 200; round++) {
    const count = 2 + draw(9);
    const records = Array.from({ length: count }, (_, index) => {
      const startMs = draw(2);
      return makeSpan({
        name: `span ${index}`,
        spanId: id(index + 1),
        // 0 is a root, one too many is a parent who is not there, and parents that come later make circles.
        parentSpanId: id(draw(count + 2)).replace(/^0+$/, ""),
        service: `service ${draw(2)}`,
        kind: draw(3) === 0 ? "CLIENT" : "INTERNAL",
        startMs,
        endMs: startMs + draw(3),
        ...(draw(4) === 0 && { endUnixNano: 0n }),
      });
    });
    const spans = records.map(({ spanId, parentSpanId, name, service, kind, startUnixNano, endUnixNano }) =>
      create(SpanSchema, { spanId, parentSpanId, name, service, kind, startUnixNano, endUnixNano }),
    );
    assert.deepEqual(
      layOutWaterfall(spans, startMs).rows.map((row) => [row.span.name, row.depth]),
      Array.from(depthFirst(buildTraceTree(records)), ({ span: { name }, depth }) => [name, depth]),
      `round ${round}`,
    );
  }
});

test("call is placed before its effects in another service, and running spans after ended ones", () => {
  const spans = [
    span("inference", "root", 1, 90, { service: "worker", kind: "SERVER" }),
    span("call", "root", 1, 99, { service: "pipeline", kind: "CLIENT" }),
    span("root", "", 0, undefined, { service: "pipeline" }),
    span("running", "call", 1, undefined),
    span("ended", "call", 1, 2),
  ];
  assert.deepEqual(
    layOutWaterfall(spans, startMs).rows.map((row) => row.span.name),
    ["root", "call", "ended", "running", "inference"],
  );
});

test("time axis has at most five round numbers after 0", () => {
  const words = (durationMs: number) =>
    viewWaterfall(layOutWaterfall([span("root", "", 0, durationMs)], startMs), all).axis.map((tick) => tick.label);
  assert.deepEqual(words(100), ["0", "20 ms", "40 ms", "60 ms", "80 ms", "100 ms"]);
  assert.deepEqual(words(1530), ["0", "500 ms", "1 s", "1.5 s"]);
  assert.deepEqual(words(7.5), ["0", "2 ms", "4 ms", "6 ms"]);
  assert.deepEqual(viewWaterfall(layOutWaterfall([], startMs), all).axis, []);
});

test("trace and cycle may be as deep as the number of spans", () => {
  const depth = 20_000;
  const chain = (parentOfFirst: string) =>
    Array.from({ length: depth }, (_, index) =>
      span(`${index}`, index === 0 ? parentOfFirst : `${index - 1}`, index, 2 * depth),
    );
  for (const parentOfFirst of ["", `${depth - 1}`]) {
    const { rows } = layOutWaterfall(chain(parentOfFirst), startMs);
    assert.equal(rows.length, depth);
    assert.equal(rows.at(-1)?.depth, depth - 1);
  }
});

describe("the view of a waterfall", () => {
  const waterfall = layOutWaterfall(
    image.map((each) => (each.name === "diffusion" ? span("diffusion", "inference", 12, 88, diffusionData) : each)),
    startMs + 100,
  );
  const names = (choice: Partial<WaterfallChoice>) =>
    viewWaterfall(waterfall, { ...all, ...choice }).rows.map(({ row }) => row.span.name);

  test("hides the descendants of collapsed spans", () => {
    assert.deepEqual(names({ collapsed: new Set(["inference"]) }), ["root", "preprocess", "call", "inference"]);
    assert.deepEqual(names({ collapsed: new Set(["root", "inference"]) }), ["root"]);
    const { rows } = viewWaterfall(waterfall, { ...all, collapsed: new Set(["inference"]) });
    assert.deepEqual(
      rows.map(({ isExpanded }) => isExpanded),
      [true, undefined, undefined, false],
    );
  });

  test("finds names, services, attributes and events, and shows what is found below a collapsed span", () => {
    const found = (query: string, collapsed: ReadonlySet<string> = new Set()) => {
      const { rows, matches } = viewWaterfall(waterfall, { ...all, query, collapsed });
      return matches.map((index) => rows[index]?.row.span.name);
    };
    assert.deepEqual(found("UPLOAD"), ["upload"]);
    assert.deepEqual(found("diffusion.seed"), ["diffusion"]);
    assert.deepEqual(found("seed=42"), ["diffusion"]);
    assert.deepEqual(found("seed = 43"), []);
    assert.deepEqual(found("denoising"), ["diffusion"]);
    assert.deepEqual(found("  "), []);
    assert.deepEqual(found("seed=42", new Set(["root", "inference"])), ["diffusion"]);
    assert.deepEqual(names({ query: "seed=42", collapsed: new Set(["root", "inference"]) }), [
      "root",
      "inference",
      "diffusion",
    ]);
  });

  test("zooms bars, events and the axis into a part of the time", () => {
    const { rows, axis } = viewWaterfall(waterfall, { ...all, zoom: { from: 0.1, to: 0.3 } });
    const barOf = (name: string) => rows.find(({ row }) => row.span.name === name)?.bar;
    assert.equal(barOf("upload"), undefined);
    assert.deepEqual(barOf("root"), { startShare: 0, widthShare: 1 });
    const bar = barOf("diffusion");
    assert.ok(bar !== undefined && Math.abs(bar.startShare - 0.1) < 1e-9 && Math.abs(bar.widthShare - 0.9) < 1e-9);
    const [event] = rows.find(({ row }) => row.span.name === "diffusion")?.events ?? [];
    assert.ok(event !== undefined && Math.abs(event.share - 0.5) < 1e-9);
    assert.deepEqual(
      axis.map(({ label }) => label),
      ["10 ms", "15 ms", "20 ms", "25 ms", "30 ms"],
    );
  });

  test("zooms to a span with a margin, to two places in any order, and never to nothing", () => {
    const diffusion = waterfall.rows.find((row) => row.span.name === "diffusion");
    const zoom = diffusion && zoomTo(diffusion);
    assert.ok(zoom !== undefined && zoom.from < 0.12 && zoom.to > 0.88);
    assert.deepEqual(zoomBetween(0.7, 0.2), { from: 0.2, to: 0.7 });
    assert.deepEqual(zoomBetween(-1, 0.5), { from: 0, to: 0.5 });
    assert.equal(zoomBetween(0.5, 0.5), undefined);
    assert.equal(zoomBetween(-0.1, 1.1), undefined);
  });
});

describe("map layout", () => {
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
});
