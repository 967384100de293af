import type { Readable } from "node:stream";
import { Worker } from "node:worker_threads";

/** Descriptor of the pipe that the process's heart beats on; the host makes it. */
export const heartbeatDescriptor = 4;

/** How often it beats, in milliseconds. */
const heartbeatMs = 500;

/**
 * Start a thread that writes the process's resident memory, in bytes, one line each, to the heartbeat's pipe. The main thread cannot do this,
 * because a run of a sub-model blocks it. When the pipe is closed, the host has exited, and the thread ends the process at once.
 */
export function startHeartbeat(): void {
  const worker = new Worker(beat, {
    eval: true,
    workerData: { descriptor: heartbeatDescriptor, everyMs: heartbeatMs },
    // Plain JavaScript, so it needs neither the loader nor the flags of the main thread.
    execArgv: [],
    env: {},
  });
  worker.unref();
}

/** A text, so that it is the same program in the sources and in the package. */
const beat = `
const { writeSync } = require("node:fs");
const { workerData: { descriptor, everyMs } } = require("node:worker_threads");
function beat() {
  try {
    writeSync(descriptor, process.memoryUsage.rss() + "\\n");
  } catch (error) {
    if (error.code !== "EAGAIN") {
      process.kill(process.pid, "SIGKILL");
    }
  }
}
beat();
setInterval(beat, everyMs);
`;

/** What a process's heartbeat is watched for. */
export interface HeartbeatMonitorOptions {
  /** One line for each beat: the process's resident memory, in bytes. */
  readonly beats: Readable;
  /** Milliseconds without a beat, after the first word of the process, after which the process counts as hung. */
  readonly silenceMs: number;
  /** Bytes of resident memory above which it must end at once. */
  readonly maxMemoryBytes: number;
  /** Called with the reason, as text for the log. */
  readonly onFailure: (reason: string) => void;
}

/** A process's signs of life. */
export interface HeartbeatMonitor {
  /** Last reported resident memory, in bytes; 0 before. */
  readonly memoryBytes: number;
  /** The process has reported its memory in another message. */
  note(memoryBytes: number): void;
  stop(): void;
}

/** Number of checks per silence. A host that was suspended misses one check, and receives the beats before the next. */
const looks = 4;

/** Watches the heartbeat of a process. */
export function startHeartbeatMonitor({
  beats,
  silenceMs,
  maxMemoryBytes,
  onFailure,
}: HeartbeatMonitorOptions): HeartbeatMonitor {
  let memoryBytes = 0;
  let missed = 0;
  let timer: NodeJS.Timeout | undefined;
  const look = (): void => {
    missed++;
    if (missed > looks) {
      clearInterval(timer);
      onFailure(`no sign of life for ${silenceMs} ms`);
    }
  };
  const note = (bytes: number): void => {
    memoryBytes = bytes;
    timer ??= setInterval(look, silenceMs / looks).unref();
    if (memoryBytes > maxMemoryBytes) {
      onFailure(`its memory of ${memoryBytes} bytes is over the hard limit of ${maxMemoryBytes}`);
    }
  };
  beats.on("data", (chunk: Buffer) => {
    missed = 0;
    note(Number(chunk.toString().trim().split("\n").at(-1)));
  });
  beats.on("error", () => {});
  return {
    get memoryBytes() {
      return memoryBytes;
    },
    note,
    stop: () => clearInterval(timer),
  };
}
