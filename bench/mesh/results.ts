import { writeFile } from "node:fs/promises";
import { describeMachine } from "../support/figures.js";
import type { HeldStreams, Latency } from "./held-streams.js";
import type { Comparison, Row, Turn } from "./rounds.js";

/** What a run of the benchmark found. */
export interface MeshResults {
  readonly versions: Readonly<Record<string, string>>;
  readonly note: string;
  readonly rounds: number;
  readonly secondsOfATurn: number;
  readonly rows: readonly Row[];
  /** This checkout to other versions of ours, where there were some. */
  readonly comparisons: readonly Comparison[];
  readonly streams: readonly HeldStreams[];
  readonly turns: readonly Turn[];
}

/** Writes results/mesh.json and results/mesh.md where they are to be kept, and prints the latter. */
export async function writeResults(results: MeshResults, { keep }: { readonly keep: boolean }): Promise<void> {
  const { versions, ...found } = results;
  const made = { ...describeMachine(versions), ...found };
  const list = Object.entries(made.versions).map(([program, version]) => `${program} ${version}`);
  const page = [
    "# The mesh under load",
    "",
    `${made.machine}, ${made.date}; ${list.join(", ")}. ${results.rounds} rounds, ${results.secondsOfATurn} s a turn.`,
    ...(results.note === "" ? [] : ["", results.note]),
    "",
    "Ratios are taken within each round, against the plain system on connect-node: requests per second (median, lowest round), p99 (median, highest round).",
    "CPU time and peak memory are those of pipeline and worker together. Every trace arrived whole.",
    "",
    table(
      ["concurrency", "system", "requests/s", "p50 ms", "p99 ms", "CPU s per 1,000", "peak MiB", "ratio", "p99 ratio"],
      results.rows.map((row) => [
        row.concurrency,
        row.system,
        row.requestsPerSecond.toFixed(0),
        row.p50Ms.toFixed(1),
        row.p99Ms.toFixed(1),
        row.cpuSecondsPer1000.toFixed(2),
        row.peakRssMiB,
        withWorst(row.ratioToPlain, row.worstRatio),
        withWorst(row.p99RatioToPlain, row.worstP99Ratio),
      ]),
    ),
    ...(results.comparisons.length === 0 ? [] : ["", comparisonTable(results.comparisons)]),
    ...(results.streams.length === 0
      ? []
      : ["", "## Open streams, cancelled together", "", streamTable(results.streams)]),
    "",
  ].join("\n");
  if (keep) {
    const folder = new URL("../results/", import.meta.url);
    await writeFile(new URL("mesh.json", folder), `${JSON.stringify(made, null, 2)}\n`);
    await writeFile(new URL("mesh.md", folder), page);
  }
  process.stdout.write(page);
}

function comparisonTable(comparisons: readonly Comparison[]): string {
  return table(
    ["concurrency", "this checkout to", "ratio", "p99 ratio"],
    comparisons.map(({ concurrency, to, ratio, worstRatio, p99Ratio }) => [
      concurrency,
      to,
      withWorst(ratio, worstRatio),
      p99Ratio?.toFixed(2) ?? "",
    ]),
  );
}

const latencyText = ({ p50Ms, p99Ms }: Latency) => `${p50Ms} / ${p99Ms}`;

/** One column a system. */
function streamTable(streams: readonly HeldStreams[]): string {
  const row = (name: string, cell: (held: HeldStreams) => string | number) => [name, ...streams.map(cell)];
  return table(
    ["measure", ...streams.map(({ system }) => system)],
    [
      row("calls with a first event", (held) => `${held.withFirstEvent} of ${held.streams}`),
      row("calls that ended before the cancel", (held) => {
        const ends = Object.entries(held.ends).map(([end, count]) => `${count} with ${end}`);
        return ends.length === 0 ? "none" : ends.join(", ");
      }),
      row("time until the last first event, ms", (held) => held.lastFirstEventMs),
      row("pipeline, KiB per call", (held) => held.pipelineKiBPerStream),
      row("worker, KiB per call", (held) => held.workerKiBPerStream),
      row("health check idle, p50 / p99 ms", (held) => latencyText(held.healthIdle)),
      row("health check with open streams, p50 / p99 ms", (held) => latencyText(held.healthHeld)),
      row("health check during the cancel, p50 / p99 ms", (held) => latencyText(held.healthDuringCancel)),
      row("time from the cancel until the services are idle, ms", (held) => held.quietAfterMs ?? "more than 30,000"),
      row("CPU time of the cancel, s", (held) => held.cancelCpuSeconds),
    ],
  );
}

function withWorst(value: number | null, worst: number | null): string {
  return value === null || worst === null ? "" : `${value.toFixed(2)} (${worst.toFixed(2)})`;
}

function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}
