import { spawn } from "node:child_process";
import { EventEmitter } from "node:events";
import { fileURLToPath } from "node:url";
import type { SpanRecord } from "../../../src/trace/span-record.js";
import { createLink, type Link } from "./link.js";
import type { WorkerOrder, WorkerReport } from "./worker-messages.js";

/** A worker in a process and a network namespace of its own. */
export interface WorkerProcess {
  readonly link: Link;
  readonly host: string;
  readonly port: number;
  /** Spans reported so far. */
  readonly spans: readonly SpanRecord[];
  /** Emits `report` for each {@link WorkerReport}. */
  readonly reports: EventEmitter;
  /** Stops its generations at the second step, or lets them go. */
  hold(hold: boolean): void;
  /** Resolves when a generation stands at its second step from now on. */
  holding(): Promise<void>;
  kill(signal: "SIGKILL" | "SIGSTOP" | "SIGCONT"): void;
  /** Kills it, and lets go of its namespace. */
  end(): void;
}

/** For a busy machine. */
const timeoutMs = 120_000;

/** Starts a worker; it ends with this process. */
export async function startWorkerProcess(index: number, clockSkewMs = 0): Promise<WorkerProcess> {
  const link = await createLink(index);
  const [nsenter = "", ...into] = link.enter;
  const program = fileURLToPath(new URL("./worker-program.ts", import.meta.url));
  const child = spawn(
    nsenter,
    [...into, process.execPath, ...process.execArgv, program, link.address, `${clockSkewMs}`],
    { stdio: ["ignore", "ignore", "inherit", "ipc"], serialization: "advanced" },
  );
  const spans: SpanRecord[] = [];
  const reports = new EventEmitter();
  child.on("message", (report: WorkerReport) => {
    if (report.kind === "spans") {
      spans.push(...report.spans);
    }
    reports.emit("report", report);
  });
  const next = (kind: WorkerReport["kind"]) =>
    new Promise<void>((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer);
        reports.off("report", check);
      };
      const check = (report: WorkerReport) => {
        if (report.kind === kind) {
          settle();
          resolve();
        }
      };
      const timer = setTimeout(() => {
        settle();
        reject(new Error(`the worker is not ${kind} within ${timeoutMs} ms`));
      }, timeoutMs);
      reports.on("report", check);
    });
  await next("ready");
  return {
    link,
    host: link.address,
    port: 50_052,
    spans,
    reports,
    hold: (hold) => void child.send({ hold } satisfies WorkerOrder),
    holding: () => next("holding"),
    kill: (signal) => void child.kill(signal),
    end() {
      child.kill("SIGKILL");
      link.close();
    },
  };
}
