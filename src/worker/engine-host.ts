import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import {
  defaultStallMs,
  type EngineProcess,
  type EngineProcessOptions,
  startEngineProcess,
} from "../engine/child/engine-process.js";
import type { LoadOrder, StartUpTimes } from "../engine/child/messages.js";
import { type Engine, GenerationError } from "../engine/engine.js";

/** Options of {@link createEngineHost}. */
export interface EngineHostOptions extends LoadOrder, Pick<EngineProcessOptions, "program" | "silenceMs" | "stallMs"> {
  readonly logger: Pick<Logger, "debug" | "info" | "warn" | "error">;
  /** Aborts the start. */
  readonly signal?: AbortSignal;
  /**
   * Memory limit of the engine's process (resident bytes), checked between images. Above it, the process is restarted after the image, at most
   * once a minute, while the queue waits; above 1.5 times the limit it is killed at once. A limit below 1.25 times the loaded model's size is
   * logged as a warning. @default no limit
   */
  readonly maxMemoryBytes?: number | undefined;
  /** Time limit for the process to exit, in milliseconds; then it is killed. @default 1000 */
  readonly closeGraceMs?: number;
  /** First backoff after a failed restart, in milliseconds; it doubles each time, up to 30 s. @default 500 */
  readonly backOffMs?: number;
}

/** State of an engine: `ready`; `restarting` until the next process is ready; `stopped` after `close`. */
export type EngineHostState = "ready" | "restarting" | "stopped";

/** Engine in a child process, which is restarted when it dies. */
export interface EngineHost extends Engine {
  readonly state: EngineHostState;
  /** Startup times of the first process. */
  readonly startUp: StartUpTimes;
  /** Process id of the running engine; undefined without one. */
  readonly pid: number | undefined;
  /** Calls back at each change of `state` with whether the engine is ready. Returns a function that removes the listener. */
  onAvailabilityChange(listener: (available: boolean) => void): () => void;
  /** Ends the process; a running generation fails as `lost`. Idempotent. */
  close(): Promise<void>;
}

const maxBackOffMs = 30_000;
const hardLimitFactor = 1.5;
/** Minimum ratio of the limit to the loaded model's size. Below it, any image could end the process. */
const headroomFactor = 1.25;
/** Minimum interval of restarts for memory, so that a low limit cannot keep the engine restarting. */
const minRestartIntervalMs = 60_000;
/** Time limit of a restart: this multiple of the first start, but at least `minStartLimitMs`. */
const startTimeoutFactor = 10;
const minStartLimitMs = 600_000;

/**
 * Start an engine process and restart it whenever it dies: at once, or with an exponential backoff until one has generated an image.
 *
 * @throws the error of `startEngineProcess` if the first start fails.
 */
export async function createEngineHost(options: EngineHostOptions): Promise<EngineHost> {
  const { logger, closeGraceMs = 1000, backOffMs = 500, signal: startSignal, ...rest } = options;
  const { maxMemoryBytes = Number.POSITIVE_INFINITY, stallMs = defaultStallMs, ...engine } = rest;
  const closing = new AbortController();
  const listeners = new Set<(available: boolean) => void>();
  let state: EngineHostState = "ready";
  let failures = 0;
  let restartedAt = Number.NEGATIVE_INFINITY;

  const start = (signal: AbortSignal) =>
    startEngineProcess({
      ...engine,
      maxMemoryBytes,
      stallMs,
      killAboveBytes: maxMemoryBytes * hardLimitFactor,
      signal,
      onOutput: (line) => logger.debug({ line }, "engine output"),
      onDeviceFailure: (failure) => logger.warn(failure, "device is not usable, trying the next one"),
    });

  const first = await start(AbortSignal.any([closing.signal, ...(startSignal ? [startSignal] : [])]));
  let current: EngineProcess | undefined = first;
  let { info } = first;
  if (first.memoryBytes > maxMemoryBytes) {
    await first.stop({ graceMs: 0 });
    throw new Error(
      `the loaded model uses ${first.memoryBytes} bytes of memory, more than the engine's limit of ${maxMemoryBytes}; raise the limit`,
    );
  }
  if (first.memoryBytes * headroomFactor > maxMemoryBytes) {
    logger.warn(
      { memoryBytes: first.memoryBytes, maxMemoryBytes },
      `the engine's memory limit is below ${headroomFactor} times the size of the loaded model, so images may end the engine repeatedly; raise the limit`,
    );
  }
  const startLimitMs = Math.max(minStartLimitMs, startTimeoutFactor * (first.startUp.loadMs + first.startUp.warmUpMs));
  logger.info(describeEngine(first), "engine ready");

  function setState(next: EngineHostState): void {
    if (state !== next) {
      state = next;
      for (const listener of [...listeners]) {
        listener(next === "ready");
      }
    }
  }

  /** Starts processes until one is ready or the host is closed. */
  async function restart(): Promise<EngineProcess | undefined> {
    for (;;) {
      const waitMs = failures === 0 ? 0 : Math.min(backOffMs * 2 ** (failures - 1), maxBackOffMs);
      failures++;
      try {
        await delay(waitMs, undefined, { signal: closing.signal });
        return await start(AbortSignal.any([closing.signal, AbortSignal.timeout(startLimitMs)]));
      } catch (error) {
        if (closing.signal.aborted) {
          return undefined;
        }
        logger.error({ err: error, failures }, "engine restart failed");
      }
    }
  }

  async function keepRunning(): Promise<void> {
    while (current !== undefined) {
      const exit = await current.exited;
      if (closing.signal.aborted) {
        current = undefined;
        return;
      }
      if (state === "ready") {
        logger.error({ exit }, "engine died");
      }
      current = undefined;
      setState("restarting");
      current = await restart();
      if (current !== undefined) {
        // The next process may run on another device.
        info = current.info;
        logger.info(describeEngine(current), "engine ready again");
        setState("ready");
      }
    }
  }
  const ended = keepRunning();

  return {
    get info() {
      return info;
    },
    startUp: first.startUp,
    get state() {
      return state;
    },
    get pid() {
      return current?.pid;
    },
    async generate(request, generateOptions) {
      if (current === undefined || state !== "ready") {
        throw new GenerationError("lost", state === "stopped" ? "the engine is shut down" : "the engine is restarting");
      }
      const engine = current;
      const image = await engine.generate(request, generateOptions);
      failures = 0;
      const { memoryBytes } = engine;
      const now = performance.now();
      if (memoryBytes > maxMemoryBytes && state === "ready" && now - restartedAt >= minRestartIntervalMs) {
        restartedAt = now;
        // Stop before the next start: two processes would need twice the memory. The admission is paused from here on.
        logger.warn({ memoryBytes, maxMemoryBytes }, "engine is restarted because it exceeds its memory limit");
        setState("restarting");
        void engine.stop({ graceMs: closeGraceMs });
      }
      return image;
    },
    onAvailabilityChange(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    async close() {
      const running = current;
      closing.abort();
      setState("stopped");
      await running?.stop({ graceMs: closeGraceMs });
      await ended;
    },
  };
}

function describeEngine({ pid, info: { model, executionProvider }, graphs, notes, startUp }: EngineProcess) {
  const { assumptions, ...chosen } = notes;
  const assumed = assumptions.length > 0 ? { assumptions } : {};
  return { pid, model, executionProvider, graphs: Object.values(graphs), ...chosen, ...assumed, ...startUp };
}
