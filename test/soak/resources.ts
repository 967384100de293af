import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as z from "zod";
import { floorOf, type LinearFit, linearFit, type Sample } from "./linear-fit.js";

/** What is measured of a process: MiB of resident memory, MiB that live after a collection (heap and beside it), open files. */
export const measures = ["resident", "live", "files"] as const;
export type Measure = (typeof measures)[number];

/** Memory, open files and processor time of processes, sampled from outside; the heap by a module that is preloaded into them. */
export interface Resources {
  /** Variables of a process whose heap is to be measured. */
  readonly environment: Readonly<Record<string, string>>;
  /** Measures a process from now on. */
  watch(name: string, pid: number): void;
  /** Samples of a process after a moment by `Date.now()`. */
  fit(name: string, since: number): Readonly<Record<Measure, LinearFit>>;
  /** Processor time since the last call, of the system and of everything that runs on the machine. */
  processorTime(): ProcessorTime;
  /** Kills the watched processes and others, as far as they are children of this one. */
  killAll(others: readonly number[]): void;
  close(): void;
}

/** Processor time of an interval. */
export interface ProcessorTime {
  /** Share of all cores that the system and its clients took. */
  readonly own: number;
  /** Share of all cores that were busy. */
  readonly machine: number;
  /** Seconds by kind of process: the first word of its name, `database` and `clients`. A process that ended is left out. */
  readonly seconds: ReadonlyMap<string, number>;
}

const everyMs = 5_000;
/** Stretch whose smallest sample counts, in milliseconds. */
const stretchMs = 30_000;
/** Clock ticks of a second in /proc. */
const ticksPerSecond = 100;
const cores = availableParallelism();

/** @param roots processes that count with all their children, such as a database server. */
export function createResources(roots: () => readonly number[]): Resources {
  const folder = mkdtempSync(join(tmpdir(), "throughline-soak-"));
  const watched = new Map<string, { readonly pid: number; readonly resident: Sample[]; readonly files: Sample[] }>();
  const sample = (): void => {
    const at = Date.now();
    for (const { pid, resident, files } of watched.values()) {
      try {
        const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
        if (kib !== undefined) {
          resident.push({ at, value: Number(kib) / 1024 });
          files.push({ at, value: readdirSync(`/proc/${pid}/fd`).length });
        }
      } catch {
        // It has ended.
      }
    }
  };
  const timer = setInterval(sample, everyMs);
  /** By process id: its kind, and its processor time so far. */
  const readTimes = () => {
    const kinds = new Map([
      [process.pid, "clients"],
      ...familyOf(roots()).map((pid) => [pid, "database"] as const),
      ...[...watched].map(([name, { pid }]) => [pid, name.split(" ", 1)[0] ?? name] as const),
    ]);
    return new Map([...kinds].map(([pid, kind]) => [pid, { kind, seconds: processorSeconds(pid) }]));
  };
  let before = { at: performance.now(), machine: busySeconds(), times: readTimes() };

  return {
    environment: {
      SOAK_PROBES: folder,
      NODE_OPTIONS: `--import ${fileURLToPath(new URL("./heap-probe.mjs", import.meta.url))}`,
    },
    watch: (name, pid) => void watched.set(name, { pid, resident: [], files: [] }),
    fit(name, since) {
      const { pid, resident, files } = watched.get(name) ?? { pid: 0, resident: [], files: [] };
      const after = (samples: readonly Sample[]) =>
        linearFit(
          floorOf(
            samples.filter(({ at }) => at >= since),
            stretchMs,
          ),
        );
      return { resident: after(resident), live: after(liveOf(folder, pid)), files: after(files) };
    },
    processorTime() {
      const now = { at: performance.now(), machine: busySeconds(), times: readTimes() };
      const coreSeconds = ((now.at - before.at) / 1000) * cores;
      const seconds = new Map<string, number>();
      for (const [pid, { kind, seconds: total }] of now.times) {
        const since = total - (before.times.get(pid)?.seconds ?? 0);
        seconds.set(kind, (seconds.get(kind) ?? 0) + since);
      }
      const own = [...seconds.values()].reduce((sum, one) => sum + one, 0) / coreSeconds;
      const machine = (now.machine - before.machine) / coreSeconds;
      before = now;
      return { own, machine, seconds };
    },
    killAll(others) {
      for (const pid of [...[...watched.values()].map((each) => each.pid), ...others]) {
        // A process that has ended may have given its number to another one.
        if (Number(fieldsOf(pid)[1]) === process.pid) {
          process.kill(pid, "SIGKILL");
        }
      }
    },
    close() {
      clearInterval(timer);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

const probe = z.object({ at: z.number(), bytes: z.number() });

function liveOf(folder: string, pid: number): Sample[] {
  const lines = readFileSync(join(folder, `${pid}.jsonl`), "utf8")
    .trimEnd()
    .split("\n");
  return lines.map((line) => probe.parse(JSON.parse(line))).map(({ at, bytes }) => ({ at, value: bytes / 1024 ** 2 }));
}

/** Processes and their children. */
function familyOf(roots: readonly number[]): number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => roots.includes(pid) || roots.includes(Number(fieldsOf(pid)[1])));
}

/** Fields of /proc/PID/stat behind the name: state, parent, …; none for a process that has ended. */
function fieldsOf(pid: number): string[] {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return [];
  }
}

/** Its own, and of its children that have ended. */
function processorSeconds(pid: number): number {
  const times = fieldsOf(pid).slice(11, 15).map(Number);
  return times.reduce((sum, ticks) => sum + ticks, 0) / ticksPerSecond;
}

function busySeconds(): number {
  const [line = ""] = readFileSync("/proc/stat", "utf8").split("\n", 1);
  const [user = 0, nice = 0, system = 0, , , irq = 0, softIrq = 0] = line.split(/\s+/).slice(1).map(Number);
  return (user + nice + system + irq + softIrq) / ticksPerSecond;
}
