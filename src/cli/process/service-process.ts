import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Environment } from "../../trace/telemetry/environment.js";
import { CommandError } from "../command-error.js";
import { commandLineEntry } from "../package-root.js";
import { type ServiceOrders, serviceReport, supervisedVariable } from "./supervisor.js";
import { rejectWhenAborted } from "./when-aborted.js";

/** Which service to start, and how. */
export interface ServiceProcessOptions {
  /** Name of the command that serves, such as `worker`. */
  readonly command: string;
  readonly environment: Environment;
  /** What the service shall do. The process loads its code while this is still to come. */
  readonly orders: Promise<ServiceOrders>;
  /** Told each line that the service writes: its log, without the line break. */
  readonly onLog: (line: string) => void;
  /** Gives the start up, and ends what was started. */
  readonly interrupt: AbortSignal;
}

/** A service that runs in a process of its own. It ends when this process ends, however that happens. */
export interface ServiceProcess {
  readonly command: string;
  /** Base URL, such as `http://127.0.0.1:50052`. */
  readonly url: string;
  /** Resolves when the process is gone, with words for how it ended. */
  readonly ended: Promise<string>;
  /** Asks it to end, kills it when it does not within 10 seconds, and resolves when it is gone. */
  stop(): Promise<void>;
}

const stopMs = 10_000;

/**
 * Starts one of this command line's services as a child process and waits until it serves. The child watches the IPC channel between
 * the two and ends when it breaks, so nothing is left behind even when this process is killed.
 *
 * @throws CommandError with the child's own words when it cannot start, or what the orders reject with; the process is then gone.
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
      throw new CommandError(`the ${command} ${how} before it was ready`);
    });
    // Whichever settles after the race is over settles for nobody.
    for (const late of [reported, died]) {
      late.catch(() => {});
    }
    child.send(await Promise.race([orders, died, rejectWhenAborted(signal)]), () => {});
    const [message]: unknown[] = await Promise.race([reported, died]);
    const report = serviceReport.parse(message);
    if (report.kind === "failed") {
      throw new CommandError(report.message);
    }
    return { command, url: report.url, ended, stop };
  } catch (error) {
    await stop();
    interrupt.throwIfAborted();
    throw error;
  } finally {
    waiting.abort();
  }
}

/** Resolves when the process is gone and all that it said has been read. */
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
