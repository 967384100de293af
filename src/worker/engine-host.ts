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

/** How an engine is started, and watched over. */
export interface EngineHostOptions extends LoadOrder, Pick<EngineProcessOptions, "program" | "silenceMs" | "stallMs"> {
  readonly logger: Pick<Logger, "debug" | "info" | "warn" | "error">;
  /** Aborts the start. */
  readonly signal?: AbortSignal;
  /**
   * Resident bytes that the process may have between two images. Above them it is ended after the image and started anew, while
   * those who wait wait for it, at most once a minute; above 1.5 times as much it is killed in the middle of an image. A limit below 1.25
   * times what the loaded model takes is warned of. @default without limit
   */
  readonly maxMemoryBytes?: number;
  /** How long the process may take to end when it is asked to; then it is killed. It has nothing to save. @default 1000 */
  readonly closeGraceMs?: number;
  /** First wait before a restart after a restart that did not help; it doubles each time, up to 30 s. @default 500 */
  readonly backOffMs?: number;
}

/** `ready`: it generates. `restarting`: its process has died and the next one is not up yet. `stopped`: closed for good. */
export type EngineHostState = "ready" | "restarting" | "stopped";

/** An engine in a child process that is started again whenever it dies. */
export interface EngineHost extends Engine {
  readonly state: EngineHostState;
  /** How long the first process took to get ready. */
  readonly startUp: StartUpTimes;
  /** Process id of the engine that is up; undefined while none is. */
  readonly pid: number | undefined;
  /** Calls back at every change of `state`, with whether the engine can generate now; the function returned takes the listener away again. */
  onAvailabilityChange(listener: (available: boolean) => void): () => void;
  /** Ends the process; a generation fails as `lost`. Safe to call again. */
  close(): Promise<void>;
}

const longestBackOffMs = 30_000;
const hardLimitFactor = 1.5;
/** What images need above the loaded model, at least; with less, any caller's image could end the process. */
const headroomFactor = 1.25;
/** A limit that is too low must not keep the engine away for good. */
const leastRestartIntervalMs = 60_000;
/** A later start that takes so many times as long as the first one, and at least so long, is given up, and tried again. */
const startTimeoutFactor = 10;
const leastStartLimitMs = 600_000;

/**
 * Starts an engine process on a model and keeps one up. The first start must succeed; after a death the next process starts
 * at once, and with growing waits while none of them gets to generate an image.
 *
 * @throws what `startEngineProcess` throws when the model cannot be loaded.
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
      stallMs,
      killAboveBytes: maxMemoryBytes * hardLimitFactor,
      signal,
      onOutput: (line) => logger.debug({ line }, "engine output"),
      onDeviceFailure: (failure) => logger.warn(failure, "device cannot be used, the next one is tried"),
    });

  const first = await start(AbortSignal.any([closing.signal, ...(startSignal ? [startSignal] : [])]));
  let current: EngineProcess | undefined = first;
  let { info } = first;
  if (first.memoryBytes > maxMemoryBytes) {
    await first.stop({ graceMs: 0 });
    throw new Error(
      `the loaded model takes ${first.memoryBytes} bytes of memory, more than the engine's limit of ${maxMemoryBytes}`,
    );
  }
  if (first.memoryBytes * headroomFactor > maxMemoryBytes) {
    logger.warn(
      { memoryBytes: first.memoryBytes, maxMemoryBytes },
      `the engine's memory limit is below ${headroomFactor} times what the loaded model takes: images may end the engine again and again; raise the limit`,
    );
  }
  const startLimitMs = Math.max(
    leastStartLimitMs,
    startTimeoutFactor * (first.startUp.loadMs + first.startUp.warmUpMs),
  );
  logger.info(describeEngine(first), "engine ready");

  function setState(next: EngineHostState): void {
    if (state !== next) {
      state = next;
      for (const listener of [...listeners]) {
        listener(next === "ready");
      }
    }
  }

  /** Starts processes until one is ready or the host closes. */
  async function restart(): Promise<EngineProcess | undefined> {
    for (;;) {
      const waitMs = failures === 0 ? 0 : Math.min(backOffMs * 2 ** (failures - 1), longestBackOffMs);
      failures++;
      try {
        await delay(waitMs, undefined, { signal: closing.signal });
        return await start(AbortSignal.any([closing.signal, AbortSignal.timeout(startLimitMs)]));
      } catch (error) {
        if (closing.signal.aborted) {
          return undefined;
        }
        logger.error({ err: error, failures }, "engine does not start again");
      }
    }
  }

  async function keepUp(): Promise<void> {
    while (current !== undefined) {
      const how = await current.exited;
      if (closing.signal.aborted) {
        current = undefined;
        return;
      }
      if (state === "ready") {
        logger.error({ how }, "engine died");
      }
      current = undefined;
      setState("restarting");
      current = await restart();
      if (current !== undefined) {
        // Where a device went away, the next process may run on another one.
        info = current.info;
        logger.info(describeEngine(current), "engine ready again");
        setState("ready");
      }
    }
  }
  const keptUp = keepUp();

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
        throw new GenerationError(
          "lost",
          state === "stopped" ? "the engine is shut down" : "the engine is starting again",
        );
      }
      const engine = current;
      const image = await engine.generate(request, generateOptions);
      failures = 0;
      const { memoryBytes } = engine;
      const now = performance.now();
      if (memoryBytes > maxMemoryBytes && state === "ready" && now - restartedAt >= leastRestartIntervalMs) {
        restartedAt = now;
        // Ended before the next one starts, because two would need twice the memory; nobody gets a turn from here on.
        logger.warn({ memoryBytes, maxMemoryBytes }, "engine is started anew because its memory has grown");
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
      await keptUp;
    },
  };
}

function describeEngine({ pid, info: { model, executionProvider }, graphs, notes, startUp }: EngineProcess) {
  const { assumptions, ...chosen } = notes;
  const assumed = assumptions.length > 0 ? { assumptions } : {};
  return { pid, model, executionProvider, graphs: Object.values(graphs), ...chosen, ...assumed, ...startUp };
}
