import { type ChildProcess, fork } from "node:child_process";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import type { Engine } from "../engine.js";
import { ModelFolderError } from "../folder-reader.js";
import type { GraphFiles } from "../graph-files.js";
import type { DeviceFailure } from "../load-on-device.js";
import type { EngineNotes } from "../sdxl-engine.js";
import { generateInProcess } from "./generate-in-process.js";
import { heartbeatDescriptor, startHeartbeatMonitor } from "./heartbeat.js";
import { type HostMessage, isEngineMessage, type LoadOrder, type StartUpTimes } from "./messages.js";

/** Loaded and warmed-up engine in a separate process. */
export interface EngineProcess extends Engine {
  readonly pid: number;
  readonly startUp: StartUpTimes;
  /** The graphs that are loaded, or the weights that they were built over. */
  readonly graphs: GraphFiles;
  readonly notes: EngineNotes;
  /** Resident memory of the process in bytes, reported twice a second and after each image. */
  readonly memoryBytes: number;
  /** Resolves when the process has ended, with the reason, such as `signal SIGKILL` or `killed: no sign of life for 30000 ms`. */
  readonly exited: Promise<string>;
  /** Asks the process to end, and kills it after `graceMs` milliseconds. Resolves when it has ended. */
  stop(options: { readonly graceMs: number }): Promise<void>;
}

export interface EngineProcessOptions extends LoadOrder {
  /** Called at once with each device that failed. */
  readonly onDeviceFailure?: (failure: DeviceFailure) => void;
  /** Called with each line that the process prints: onnxruntime's own messages, or a crash. */
  readonly onOutput?: (line: string) => void;
  /**
   * Milliseconds without a heartbeat after which the process is killed. A separate thread sends heartbeats, so a long run
   * does not stop them; a stopped or starved process does. @default 30,000
   */
  readonly silenceMs?: number;
  /**
   * Milliseconds that a generation may go without a stage or a step before the process is killed, at least; they grow with the image
   * and with the machine, as `createWatchdog` describes. @default 600,000
   */
  readonly stallMs?: number;
  /** Resident bytes above which the process is killed at once, whatever it does. @default without limit */
  readonly killAboveBytes?: number;
  /** Kills the process while it loads. */
  readonly signal?: AbortSignal;
  /** Program of the process. @default the engine's own */
  readonly program?: URL;
}

/** Default of `stallMs`, in milliseconds: ten times a slow step of 1024² on a CPU. */
export const defaultStallMs = 600_000;

/** The program is TypeScript if this file is, else compiled JavaScript. */
const fromSource = import.meta.url.endsWith(".ts");
const ownProgram = new URL(fromSource ? "./main.ts" : "./main.js", import.meta.url);

/**
 * Forks the engine's process and waits until it has loaded the model. The process ends with this one, however this one ends.
 *
 * @throws ModelFolderError when the folder is wrong; Error when the model cannot be loaded or the process dies over it; the
 * signal's reason when it is aborted.
 */
export async function startEngineProcess(options: EngineProcessOptions): Promise<EngineProcess> {
  const { signal, program = ownProgram, onOutput, onDeviceFailure, ...rest } = options;
  const { silenceMs = 30_000, stallMs = defaultStallMs, killAboveBytes = Number.POSITIVE_INFINITY, ...order } = rest;
  signal?.throwIfAborted();
  const child = fork(program, {
    serialization: "advanced",
    // The last is the heartbeat's.
    stdio: ["ignore", "pipe", "pipe", "ipc", "pipe"],
    execArgv: fromSource ? loaderArguments(process.execArgv) : [],
  });
  let killedFor: string | undefined;
  const kill = () => child.kill("SIGKILL");
  const killFor = (reason: string): void => {
    killedFor ??= reason;
    kill();
  };
  process.on("exit", kill);
  const exited = new Promise<string>((resolve) => {
    child.once("exit", (code, exitSignal) => {
      const how = exitSignal === null ? `exit code ${code}` : `signal ${exitSignal}`;
      resolve(killedFor === undefined ? how : `killed: ${killedFor}`);
    });
    child.on("error", (error) => {
      // The other errors are of messages and signals to a process that has ended already.
      if (child.pid === undefined) {
        resolve(`not started: ${error.message}`);
      }
    });
  });
  const beats = child.stdio[heartbeatDescriptor];
  const heartbeats = startHeartbeatMonitor({
    beats: beats instanceof Readable ? beats : Readable.from([]),
    silenceMs,
    maxMemoryBytes: killAboveBytes,
    onFailure: killFor,
  });
  child.on("message", (message) => {
    if (isEngineMessage(message) && "memoryBytes" in message) {
      heartbeats.note(message.memoryBytes);
    }
  });
  void exited.then(() => {
    process.off("exit", kill);
    heartbeats.stop();
  });
  for (const stream of [child.stdout, child.stderr]) {
    if (stream !== null) {
      createInterface({ input: stream }).on("line", (line) => onOutput?.(line));
    }
  }
  const send = (message: HostMessage) => {
    if (child.connected) {
      child.send(message, () => {});
    }
  };
  send({ kind: "load", ...order });
  signal?.addEventListener("abort", kill, { once: true });
  try {
    const { info, graphs, notes, startUp } = await whenReady(child, exited, onDeviceFailure);
    return {
      info,
      graphs,
      notes,
      startUp,
      pid: child.pid ?? 0,
      exited,
      get memoryBytes() {
        return heartbeats.memoryBytes;
      },
      generate: generateInProcess({ child, exited, send, stallMs, onStall: killFor }),
      async stop({ graceMs }) {
        send({ kind: "close" });
        const timer = setTimeout(kill, graceMs);
        await exited;
        clearTimeout(timer);
      },
    };
  } catch (error) {
    kill();
    await exited;
    throw signal?.aborted ? signal.reason : error;
  } finally {
    signal?.removeEventListener("abort", kill);
  }
}

type ReadyState = Pick<EngineProcess, "info" | "graphs" | "notes" | "startUp">;

function whenReady(
  child: ChildProcess,
  exited: Promise<string>,
  onDeviceFailure: EngineProcessOptions["onDeviceFailure"],
): Promise<ReadyState> {
  return new Promise((resolve, reject) => {
    child.on("message", (message) => {
      if (!isEngineMessage(message)) {
        return;
      }
      if (message.kind === "device-failed") {
        onDeviceFailure?.(message.failure);
      } else if (message.kind === "ready") {
        resolve(message);
      } else if (message.kind === "load-failed") {
        const { fault } = message;
        reject(fault === undefined ? new Error(message.message) : new ModelFolderError(fault.folder, fault));
      }
    });
    void exited.then((how) => reject(new Error(`the engine's process ended while it loaded the model: ${how}`)));
  });
}

/** Of Node's own arguments those that load a language: the program is written in the language of this one. */
function loaderArguments(execArguments: readonly string[]): string[] {
  const flags = ["--import", "--require", "-r", "--loader", "--experimental-loader"];
  return execArguments.flatMap((argument, index) => {
    if (flags.includes(argument)) {
      return [argument, execArguments[index + 1] ?? ""];
    }
    return flags.some((flag) => argument.startsWith(`${flag}=`)) ? [argument] : [];
  });
}
