import { Worker } from "node:worker_threads";

/** Descriptor of the pipe that the process's heart beats on; the host makes it. */
export const heartbeatDescriptor = 4;

/** How often it beats, in milliseconds. */
const heartbeatMs = 500;

/**
 * Makes a thread that writes the process's resident memory, in bytes and a line each, to the heartbeat's pipe. A thread, because a run
 * of a sub-model blocks the main one for as long as it takes: its beats say that the process is alive all the same, and how it grows.
 * When nobody reads any more, the host is gone, and the thread ends the process in the middle of whatever it does.
 */
export function startHeartbeat(): void {
  const worker = new Worker(beat, {
    eval: true,
    workerData: { descriptor: heartbeatDescriptor, everyMs: heartbeatMs },
    // Neither the loader nor the flags of the main thread: it is plain JavaScript.
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
