import { writeFile } from "node:fs/promises";
import { availableParallelism, cpus } from "node:os";
import packageJson from "../../package.json" with { type: "json" };

/** One line of a report. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What is wanted, where something is. */
  readonly goal?: string;
  /** How it was measured. */
  readonly note?: string;
}

export interface Report {
  readonly title: string;
  /** Versions besides those of Node and of the dependencies that every run has. */
  readonly versions?: Readonly<Record<string, string>>;
  readonly figures: readonly Figure[];
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The value that the given share of the values does not exceed. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(sorted.length * share) - 1))] ?? Number.NaN;
}

/** What a result has to say of the machine, the versions and the date. */
export function describeMachine(versions: Readonly<Record<string, string>> = {}) {
  return {
    machine: `${availableParallelism()} cores of ${cpus()[0]?.model ?? "an unknown processor"}`,
    date: new Date().toISOString().slice(0, 10),
    versions: { throughline: packageJson.version, node: process.versions.node, ...versions },
  };
}

/** Writes a report as JSON, and as a Markdown table for people, with the machine, the versions and the date. */
export async function writeReport(name: string, { title, versions, figures }: Report): Promise<void> {
  const folder = new URL("../results/", import.meta.url);
  const onnxruntime = packageJson.dependencies["onnxruntime-node"];
  const made = describeMachine({ "onnxruntime-node": onnxruntime, ...versions });
  const rows = figures.map(({ name, value, unit, goal = "", note = "" }) => {
    const rounded = Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
    const figure = Number.isInteger(value) ? `${value}` : rounded;
    return `| ${name} | ${`${figure} ${unit}`.trimEnd()} | ${goal} | ${note} |`;
  });
  const list = Object.entries(made.versions).map(([program, version]) => `${program} ${version}`);
  const page = [
    `# ${title}`,
    "",
    `${made.machine}, ${made.date}; ${list.join(", ")}.`,
    "",
    "| measure | result | goal | method |",
    "|---|---|---|---|",
    ...rows,
    "",
  ].join("\n");
  await writeFile(new URL(`${name}.json`, folder), `${JSON.stringify({ ...made, figures }, null, 2)}\n`);
  await writeFile(new URL(`${name}.md`, folder), page);
  process.stdout.write(page);
}
