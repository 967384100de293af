import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import * as z from "zod";
import type { Environment } from "../../trace/telemetry/environment.js";
import { CliError } from "../errors.js";
import { commandLineEntry } from "../package-root.js";
import { rejectWhenAborted } from "./lifecycle.js";

/** Which service to start, and how. */
export interface ServiceProcessOptions {
  /** Name of the command that serves, such as `worker`. */
  readonly command: string;
  readonly environment: Environment;
  /** What the service does. The process loads its code before it gets them. */
  readonly orders: Promise<ServiceOrders>;
  /** Receives each line of the service's log, without the line break. */
  readonly onLog: (line: string) => void;
  /** Cancels the start and stops the process. */
  readonly interrupt: AbortSignal;
}

/** Service in a child process. It exits when this process exits, even if this process is killed. */
export interface ServiceProcess {
  readonly command: string;
  /** Base URL, such as `http://127.0.0.1:50052`. */
  readonly url: string;
  /** Device that runs the model, such as `cpu`; undefined for a service without a model. */
  readonly device: string | undefined;
  /** Resolves when the process is gone, with a description of its end. */
  readonly ended: Promise<string>;
  /** Sends SIGTERM, and SIGKILL after 10 seconds; resolves when the process is gone. */
  stop(): Promise<void>;
}

const stopMs = 10_000;

/**
 * Starts a command of this command line as a child process and waits until it serves. The child exits when the IPC channel between the two
 * breaks, so none is left when this process is killed.
 *
 * @throws CliError with the child's message when it cannot start, or the error of `orders`; the process has then exited.
 */
export async function startServiceProcess(options: ServiceProcessOptions): Promise<ServiceProcess> {
  const { command, environment, orders, onLog, interrupt } = options;
  interrupt.throwIfAborted();
  const child = fork(commandLineEntry, [command], {
    env: { ...environment, [supervisedVariable]: "1" },
    // A debugger's port belongs to this process.
    execArgv: process.execArgv.filter((argument) => !argument.startsWith("--inspect")),
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  if (child.stderr !== null) {
    createInterface({ input: child.stderr, crlfDelay: Number.POSITIVE_INFINITY }).on("line", onLog);
  }
  const ended = endOf(child);
  const stop = () => endProcess(child, ended);
  const waiting = new AbortController();
  try {
    const signal = AbortSignal.any([waiting.signal, interrupt]);
    const reported = once(child, "message", { signal });
    const died = ended.then((how): never => {
      throw new CliError(`the ${command} ${how} before it was ready`);
    });
    // The one that settles after the race has no other handler.
    for (const late of [reported, died]) {
      late.catch(() => {});
    }
    child.send(await Promise.race([orders, died, rejectWhenAborted(signal)]), () => {});
    const [message]: unknown[] = await Promise.race([reported, died]);
    const report = serviceReport.parse(message);
    if (report.kind === "failed") {
      throw new CliError(report.message);
    }
    return { command, url: report.url, device: report.device, ended, stop };
  } catch (error) {
    await stop();
    interrupt.throwIfAborted();
    throw error;
  } finally {
    waiting.abort();
  }
}

/** Resolves when the process is gone and its output is read. */
function endOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.once("close", (code, signal) => {
      resolve(signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`);
    });
    child.once("error", (error) => {
      if (child.pid === undefined) {
        resolve(`could not be started (${error.message})`);
      }
    });
  });
}

async function endProcess(child: ChildProcess, ended: Promise<string>): Promise<void> {
  child.kill("SIGTERM");
  const kill = setTimeout(() => child.kill("SIGKILL"), stopMs);
  await ended;
  clearTimeout(kill);
}

/** What a supervised service does. It is sent after the process has started. */
export interface ServiceOrders {
  /** Flags of the service's command. */
  readonly flags: readonly string[];
  /** Variables, added to the process's own. */
  readonly environment: Environment;
}

/** Report of a supervised service to the process that started it, once. */
export type ServiceReport =
  | {
      readonly kind: "ready";
      /** Base URL, such as `http://127.0.0.1:50052`. */
      readonly url: string;
      /** Device that runs the model, such as `cpu`; undefined for a service without a model. */
      readonly device?: string | undefined;
    }
  | { readonly kind: "failed" /** One line for the user. */; readonly message: string };

const serviceReport: z.ZodType<ServiceReport> = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("ready"), url: z.string(), device: z.string().optional() }),
  z.object({ kind: z.literal("failed"), message: z.string() }),
]);

const serviceOrders: z.ZodType<ServiceOrders> = z.object({
  flags: z.array(z.string()),
  environment: z.record(z.string(), z.string()),
});

/** The process that started this one. */
export interface Supervisor {
  /** Resolves with the orders when they are received. */
  orders(): Promise<ServiceOrders>;
  /** Resolves when the report is sent, or when its reader is gone. */
  report(report: ServiceReport): Promise<void>;
}

/** Variable that marks a supervised process: others may have an IPC channel too. */
export const supervisedVariable = "THROUGHLINE_SUPERVISED";

/** The supervisor at the other end of this process's IPC channel; undefined if no supervisor started it. */
export function connectSupervisor(ipc: NodeJS.Process, environment: Environment): Supervisor | undefined {
  if (environment[supervisedVariable] !== "1" || ipc.send === undefined) {
    return undefined;
  }
  return {
    async orders() {
      const [message]: unknown[] = await once(ipc, "message");
      return serviceOrders.parse(message);
    },
    report: (report) => new Promise((resolve) => ipc.send?.(report, undefined, undefined, () => resolve())),
  };
}
