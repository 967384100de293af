import type { ChildProcess } from "node:child_process";
import type { Engine } from "../engine.js";
import { PaintError } from "../paint-error.js";
import { type GenerateMessage, type HostMessage, isEngineMessage, type PaintFailure } from "./messages.js";
import { createStallWatch, type StallWatchOptions } from "./stall-watch.js";

/** The engine's process, as its host sees it. */
export interface GeneratingProcess extends StallWatchOptions {
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
  const watch = createStallWatch(stall);
  let lastId = 0;
  let current: Current | undefined;
  let gone: PaintError | undefined;

  child.on("message", (message) => {
    if (isEngineMessage(message) && "id" in message && message.id === current?.id) {
      watch.event(message.kind === "event" && message.event.kind === "settings" ? message.event.settings : undefined);
      current.onMessage(message);
    }
  });
  void exited.then((how) => {
    const cause = new Error(how);
    gone = new PaintError("lost", "the engine's process died", { cause });
    current?.fail(new PaintError("lost", gone.message, { cause, whilePainting: true }));
  });

  return async (request, { signal, onEvent }) => {
    if (current !== undefined) {
      throw new Error("the engine generates one image at a time, and one is being generated");
    }
    signal.throwIfAborted();
    if (gone !== undefined) {
      throw gone;
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
              reject(toPaintError(message.error));
              break;
            case "cancelled":
              // By the process itself: this side would have stopped listening.
              reject(new PaintError("lost", "the engine is shut down"));
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

function toPaintError({ kind, message, field, cause }: PaintFailure): PaintError {
  return new PaintError(kind, message, {
    ...(field !== undefined && { field }),
    ...(cause !== undefined && { cause: new Error(cause) }),
  });
}
