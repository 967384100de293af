import type { CallFigures, WatchEntityMapResponse } from "../../gen/throughline/studio/v1/studio_pb.js";
import { figuresText } from "./figures-text.js";

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
