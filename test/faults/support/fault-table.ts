import { readFile, writeFile } from "node:fs/promises";
import type { Seen } from "./seen.js";

/** One line of the table. */
export interface FaultRow {
  readonly fault: string;
  /** Which call it is about. */
  readonly call: string;
  /** What its client sees. */
  readonly sees: string;
  /** Within what time. */
  readonly within: string;
  /** What is retried. */
  readonly retried: string;
  /** What is on the trace. */
  readonly trace: string;
}

/** Additions to the cells that follow from the call. */
export interface CallNotes {
  /** Moment that its time counts from. @default the call's beginning */
  readonly since?: number;
  /** More of the trace, or of what else was asserted. */
  readonly trace?: string;
}

/** Collects what the faults show. */
export interface FaultTable {
  add(row: FaultRow): void;
  /** Adds what a call came to. */
  addCall(fault: string, call: string, seen: Seen, notes?: CallNotes): void;
  render(): string;
}

const columns = ["Fault", "Call", "Its client sees", "After", "Retried", "On the trace"];

export function createFaultTable(): FaultTable {
  const rows: FaultRow[] = [];
  const add = (row: FaultRow) => void rows.push(row);
  return {
    add,
    addCall(fault, call, seen, { since, trace } = {}) {
      add({
        fault,
        call,
        sees: describe(seen),
        within: seconds(since === undefined ? seen.tookMs : seen.endedAt - since),
        retried: retriesOf(seen),
        trace: trace === undefined ? describeTrace(seen) : `${describeTrace(seen)}; ${trace}`,
      });
    },
    render: () =>
      [
        line(columns),
        line(columns.map(() => "---")),
        ...rows.map(({ fault, call, sees, within, retried, trace }, index) =>
          line([rows[index - 1]?.fault === fault ? "" : fault, call, sees, within, retried, trace]),
        ),
      ].join("\n"),
  };
}

/** Puts the table between the marks of a Markdown file. */
export async function writeTable(file: URL, table: string): Promise<void> {
  const text = await readFile(file, "utf8");
  const marked = /(<!-- faults -->\n)[\s\S]*(<!-- \/faults -->)/;
  if (!marked.test(text)) {
    throw new Error("the marks of the table are missing");
  }
  await writeFile(
    file,
    text.replace(marked, (_, begin: string, end: string) => `${begin}${table}\n${end}`),
  );
}

/** A time that another run would show too. */
export function seconds(ms: number): string {
  return ms < 1000 ? "under 1 s" : `${Math.round(ms / 1000)} s`;
}

function describe({ code, words }: Seen): string {
  return code === "OK" ? "its image" : `${code} \`${words}\``;
}

function retriesOf({ attempts }: Seen): string {
  const retries = attempts.length - 1;
  return retries > 0 ? `${retries === 1 ? "once" : `${retries} times`}, elsewhere` : "no";
}

function describeTrace({ attempts, spans }: Seen): string {
  const events = attempts.map(({ code, retryReason }) => (retryReason === "" ? code : `${code} \`${retryReason}\``));
  const ofWorker = spans.filter(({ service }) => service === "text-to-image-worker").map(({ name }) => name);
  const known = ["inference", "diffusion", "upload"].filter((name) => ofWorker.includes(name));
  const attemptText = events.length === 0 ? "no attempt" : `\`attempt\` ${events.join(", ")}`;
  return `${attemptText}; ${known.length === 0 ? "no worker span" : known.map((name) => `\`${name}\``).join(", ")}`;
}

function line(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
}
