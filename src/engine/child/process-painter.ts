import type { ChildProcess } from "node:child_process";
import type { Engine } from "../engine.js";
import { PaintError } from "../paint-error.js";
import { createInbox, type Inbox } from "./inbox.js";
import { type HostMessage, isEngineMessage, type PaintFailure, type PaintMessage } from "./messages.js";
import { createStallWatch, type StallWatchOptions } from "./stall-watch.js";

/** The process that paints, seen from its host. */
export interface PaintingProcess extends StallWatchOptions {
  readonly child: ChildProcess;
  /** Resolves with how it ended. */
  readonly exited: Promise<string>;
  readonly send: (message: HostMessage) => void;
}

/**
 * `Engine.paint` in another process. An aborted painting throws at once, and the process lets go of it before the next run of
 * a sub-model; a painting that follows waits there for that.
 */
export function createProcessPainter({ child, exited, send, ...stall }: PaintingProcess): Engine["paint"] {
  const watch = createStallWatch(stall);
  let lastId = 0;
  let current: { readonly id: number; readonly inbox: Inbox<PaintMessage> } | undefined;
  let gone: PaintError | undefined;

  child.on("message", (message) => {
    if (isEngineMessage(message) && "id" in message && message.id === current?.id) {
      watch.event(message.kind === "event" && message.event.kind === "settings" ? message.event.settings : undefined);
      current.inbox.push(message);
    }
  });
  void exited.then((how) => {
    const cause = new Error(how);
    gone = new PaintError("lost", "the engine's process died", { cause });
    current?.inbox.fail(new PaintError("lost", gone.message, { cause, whilePainting: true }));
  });

  return async function* paint(request, signal) {
    if (current !== undefined) {
      throw new Error("the engine paints one picture at a time, and one is being painted");
    }
    signal.throwIfAborted();
    if (gone !== undefined) {
      throw gone;
    }
    const id = ++lastId;
    const inbox = createInbox<PaintMessage>();
    const onAbort = () => {
      send({ kind: "cancel", id });
      inbox.fail(signal.reason);
    };
    signal.addEventListener("abort", onAbort, { once: true });
    current = { id, inbox };
    let finished = false;
    try {
      watch.begin();
      send({ kind: "paint", id, request });
      for await (const message of inbox) {
        if (message.kind === "event") {
          yield message.event;
          continue;
        }
        finished = true;
        switch (message.kind) {
          case "failed":
            throw toPaintError(message.error);
          case "cancelled":
            // Not by this side, which would have stopped listening.
            throw new PaintError("lost", "the engine is shut down");
          case "done":
            return;
        }
      }
    } finally {
      current = undefined;
      watch.end();
      signal.removeEventListener("abort", onAbort);
      if (!finished) {
        send({ kind: "cancel", id });
      }
    }
  };
}

function toPaintError({ kind, message, field, cause }: PaintFailure): PaintError {
  return new PaintError(kind, message, {
    ...(field !== undefined && { field }),
    ...(cause !== undefined && { cause: new Error(cause) }),
  });
}
