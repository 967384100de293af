import type {
  CallFigures,
  Entity,
  EntityCall,
  WatchEntityMapResponse,
} from "../../gen/throughline/studio/v1/studio_pb.js";
import { askedText, figuresText, serviceColour } from "../shell/format.js";
import { useWidth } from "../shell/hooks.js";
import type { Studio } from "../shell/studio.js";
import { layOutMap, type MapDirection, type MapSizes, type PlacedEdge, type PlacedNode } from "./map-layout.js";

/** A larger graph takes seconds to lay out and is unreadable. */
const mostEntities = 40;
const mostCalls = 150;

/** Apps as nodes, the calls between them as edges. */
export function EntityMap({ studio }: { studio: Studio }) {
  const { ref, width } = useWidth<HTMLDivElement>();
  const map = studio.connection.map.value;
  const empty = map === undefined || map.entities.length === 0;
  const drawable = !empty && map.entities.length <= mostEntities && map.calls.length <= mostCalls;
  return (
    <section class="panel map" aria-labelledby="map-title">
      <div class="head">
        <h2 id="map-title">Map</h2>
        <span class="muted">calls of the last 5 minutes</span>
      </div>
      <div ref={ref}>
        {empty && <p class="muted">No app has been seen yet.</p>}
        {!empty && !drawable && (
          <p class="muted">
            {map.entities.length} apps and {map.calls.length} calls are too many to draw; the table has them.
          </p>
        )}
        {!empty && drawable && width > 0 && <Drawing map={map} width={width} />}
      </div>
      {!empty && (
        <details open={!drawable}>
          <summary>As a table</summary>
          <MapTable map={map} />
        </details>
      )}
    </section>
  );
}

const margin = 3;
const narrow = 480;
/** Width by which the labels of the last column extend beyond it. */
const labelOverhang = 30;

function sizesFor(width: number, direction: MapDirection): MapSizes {
  const node = { width: width < narrow ? 166 : 184, height: 52 };
  return { node, layerGap: direction === "across" ? 150 : 72, nodeGap: direction === "across" ? 36 : 20 };
}

function Drawing({ map, width }: { map: WatchEntityMapResponse; width: number }) {
  const names = map.entities.map(({ name }) => name);
  const lay = (direction: MapDirection) => layOutMap(names, map.calls, direction, sizesFor(width, direction));
  const wide = lay("across");
  const isWide = wide.width + 2 * margin <= width;
  const layout = isWide ? wide : lay("down");
  const { node } = sizesFor(width, isWide ? "across" : "down");
  const box = { width: layout.width + 2 * margin + (isWide ? 0 : labelOverhang), height: layout.height + 2 * margin };
  const callOf = (edge: PlacedEdge) =>
    map.calls.find(({ caller, callee }) => caller === edge.caller && callee === edge.callee);
  return (
    <svg
      class="entity-map"
      viewBox={`${-margin} ${-margin} ${box.width} ${box.height}`}
      width={box.width}
      height={box.height}
      role="img"
      aria-label={`${map.entities.length} apps and the calls between them; the table below has the same figures`}
    >
      <defs>
        <marker
          id="arrow"
          viewBox="0 0 8 8"
          refX="7"
          refY="4"
          markerWidth="7"
          markerHeight="7"
          orient="auto-start-reverse"
        >
          <path class="arrow" d="M0,0.5 L7.5,4 L0,7.5 z" />
        </marker>
      </defs>
      {layout.edges.map((edge) => (
        <Edge key={`${edge.caller} ${edge.callee}`} edge={edge} call={callOf(edge)} across={isWide} />
      ))}
      {layout.nodes.map((place) => (
        <Node
          key={place.name}
          place={place}
          size={node}
          entity={map.entities.find(({ name }) => name === place.name)}
        />
      ))}
    </svg>
  );
}

function Node({ place, size, entity }: { place: PlacedNode; size: MapSizes["node"]; entity: Entity | undefined }) {
  const { errors } = figuresText(entity?.figures);
  return (
    <g class="node" transform={`translate(${place.x} ${place.y})`}>
      <rect width={size.width} height={size.height} rx="3" />
      <rect
        width="4"
        height={size.height}
        rx="2"
        class="edge-mark"
        style={{ fill: `var(--service-${serviceColour(place.name)})` }}
      />
      <text x="14" y="21" class="node-name">
        {place.name}
      </text>
      <text x="14" y="39" class={errors === "" ? "small" : "small is-error"}>
        {askedText(entity?.figures)}
      </text>
    </g>
  );
}

/** Baselines of up to three lines of figures, seen from the middle of the way: around it, or beside it. */
const lineOffsets = { across: [-8, 17, 32], down: [-4, 12, 28] };

function Edge({ edge, call, across }: { edge: PlacedEdge; call: EntityCall | undefined; across: boolean }) {
  const { rate, latency, errors, running } = figuresText(call?.figures);
  const lines = [
    { label: rate, kind: "" },
    { label: latency, kind: "" },
    { label: [errors, running].filter(Boolean).join(", "), kind: errors === "" ? "is-running" : "is-error" },
  ].filter(({ label }) => label !== "");
  const perMinute = call?.figures?.perMinute ?? 0;
  return (
    <g class={`call${running === "" ? "" : " is-running"}${errors === "" ? "" : " is-error"}`}>
      <path
        d={edge.path}
        style={{ strokeWidth: `${1.25 + Math.min(2, Math.log10(1 + perMinute))}px` }}
        marker-end="url(#arrow)"
      />
      {lines.map(({ label, kind }, index) => (
        <text
          key={label}
          x={edge.labelX + (across ? 0 : 9)}
          y={edge.labelY + ((across ? lineOffsets.across : lineOffsets.down)[index] ?? 0)}
          class={`small ${kind}`}
          text-anchor={across ? "middle" : "start"}
        >
          {label}
        </text>
      ))}
    </g>
  );
}

/** The map's figures in rows. */
export function MapTable({ map }: { map: WatchEntityMapResponse }) {
  const rows: readonly (readonly [string, string, CallFigures | undefined])[] = [
    ...map.entities
      .filter(({ figures }) => (figures?.count ?? 0) + (figures?.running ?? 0) > 0)
      .map(({ name, figures }) => ["anyone", name, figures] as const),
    ...map.calls.map(({ caller, callee, figures }) => [caller, callee, figures] as const),
  ];
  return (
    // What can be scrolled has to be reached with the keyboard too.
    // biome-ignore lint/a11y/noNoninteractiveTabindex: see above
    <section class="scroll" tabIndex={0} aria-label="Calls as a table">
      <table>
        <thead>
          <tr>
            <th scope="col">Caller</th>
            <th scope="col">App</th>
            <th scope="col">Rate</th>
            <th scope="col">Median, p95</th>
            <th scope="col">Errors</th>
            <th scope="col">Running</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(([caller, callee, figures]) => {
            const { rate, latency } = figuresText(figures);
            return (
              <tr key={`${caller} ${callee}`}>
                <td>{caller}</td>
                <td>{callee}</td>
                <td>{rate}</td>
                <td>{latency}</td>
                <td>{figures?.errorCount ?? 0}</td>
                <td>{figures?.running ?? 0}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}
