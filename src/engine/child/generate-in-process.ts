import type { ChildProcess } from "node:child_process";
import { maxTimerMs } from "../../timer-limit.js";
import { type Engine, GenerationError } from "../engine.js";
import { type GenerateMessage, type GenerationFailure, type HostMessage, isEngineMessage } from "./messages.js";

/** The engine's process, as its host sees it. */
export interface GeneratingProcess extends WatchdogOptions {
  readonly child: ChildProcess;
  /** Resolves with how it ended. */
  readonly exited: Promise<string>;
  readonly send: (message: HostMessage) => void;
}

/** The image that is generated now. */
interface Current {
  readonly id: number;
  readonly onMessage: (message: GenerateMessage) => void;
  readonly fail: (error: unknown) => void;
}

/**
 * `Engine.generate` in another process. An abort rejects at once, and the process stops before the next run of a sub-model; the next image
 * waits there for that.
 */
export function generateInProcess({ child, exited, send, ...stall }: GeneratingProcess): Engine["generate"] {
  const watch = createWatchdog(stall);
  let lastId = 0;
  let current: Current | undefined;
  let processFailure: GenerationError | undefined;

  child.on("message", (message) => {
    if (isEngineMessage(message) && "id" in message && message.id === current?.id) {
      watch.event(message.kind === "event" && message.event.kind === "settings" ? message.event.settings : undefined);
      current.onMessage(message);
    }
  });
  void exited.then((how) => {
    const cause = new Error(how);
    processFailure = new GenerationError("lost", "the engine's process died", { cause });
    current?.fail(new GenerationError("lost", processFailure.message, { cause, whileGenerating: true }));
  });

  return async (request, { signal, onEvent }) => {
    if (current !== undefined) {
      throw new Error("the engine generates one image at a time, and one is being generated");
    }
    signal.throwIfAborted();
    if (processFailure !== undefined) {
      throw processFailure;
    }
    const id = ++lastId;
    let onAbort = () => {};
    try {
      return await new Promise((resolve, reject) => {
        onAbort = () => {
          send({ kind: "cancel", id });
          reject(signal.reason);
        };
        signal.addEventListener("abort", onAbort, { once: true });
        const onMessage = (message: GenerateMessage) => {
          switch (message.kind) {
            case "event":
              onEvent?.(message.event);
              break;
            case "done":
              resolve(message.image);
              break;
            case "failed":
              reject(toGenerationError(message.error));
              break;
            case "cancelled":
              // The process cancelled by itself: after a cancel of this side, there is no listener.
              reject(new GenerationError("lost", "the engine is shut down"));
              break;
          }
        };
        current = { id, onMessage, fail: reject };
        watch.begin();
        send({ kind: "generate", id, request });
      });
    } finally {
      current = undefined;
      watch.end();
      signal.removeEventListener("abort", onAbort);
    }
  };
}

function toGenerationError({ kind, message, violations, cause }: GenerationFailure): GenerationError {
  return new GenerationError(kind, message, {
    violations,
    ...(cause !== undefined && { cause: new Error(cause) }),
  });
}

/** Options of {@link createWatchdog}. */
export interface WatchdogOptions {
  /** Milliseconds that an image of up to 1024² may go without an event. */
  readonly stallMs: number;
  /** Called once, with the reason. */
  readonly onStall: (reason: string) => void;
}

/** Detects a run that never returns. Heartbeats continue during one, so only the lack of updates shows it. */
export interface Watchdog {
  /** A request was sent, and its first event is expected. */
  begin(): void;
  /** An event arrived; `size` if the event contains it. */
  event(size?: { readonly width: number; readonly height: number }): void;
  /** No event is expected any more. */
  end(): void;
}

const largestUsual = 1024 ** 2;
/** Multiple of the longest time between two events that counts as a stall. */
const toleranceFactor = 10;

/**
 * Counts an engine as stalled when the time since the last event is more than `stallMs` and more than ten times the longest that it took
 * between two events before. Both grow with the square of the area for images beyond 1024², as attention does.
 */
export function createWatchdog({ stallMs, onStall }: WatchdogOptions): Watchdog {
  let timer: NodeJS.Timeout | undefined;
  let lastAt = 0;
  /** Longest time between two events, brought down to 1024². */
  let longestMs = 0;
  /** Before its first event, a request may wait for the one before, so that one's size counts. */
  let growth = 1;

  const expect = (): void => {
    clearTimeout(timer);
    lastAt = performance.now();
    const boundMs = Math.max(stallMs, toleranceFactor * longestMs) * growth;
    timer = setTimeout(() => onStall(`no progress for ${Math.round(boundMs)} ms`), Math.min(boundMs, maxTimerMs));
    timer.unref();
  };

  return {
    begin: expect,
    event(size) {
      if (size === undefined) {
        longestMs = Math.max(longestMs, (performance.now() - lastAt) / growth);
      } else {
        growth = Math.max(1, (size.width * size.height) / largestUsual) ** 2;
      }
      expect();
    },
    end: () => clearTimeout(timer),
  };
}
