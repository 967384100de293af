import { GenerationError, type GenerationEvent } from "../engine.js";
import { ModelFolderError } from "../folder-reader.js";
import type { DeviceFailure, LoadedEngine } from "../load-on-device.js";
import type { SdxlEngine } from "../sdxl-engine.js";
import { startHeartbeat } from "./heartbeat.js";
import {
  type EngineMessage,
  type GenerationFailure,
  type HostMessage,
  isHostMessage,
  type LoadFailedMessage,
  type LoadOrder,
} from "./messages.js";

/** The engine's end of the channel to its host. */
export interface HostChannel {
  send(message: EngineMessage): void;
  onMessage(listener: (message: HostMessage) => void): void;
}

export interface ServeEngineOptions {
  readonly channel: HostChannel;
  /** Loads the model that the host names, and warms it up. */
  readonly load: (order: LoadOrder, onFailure: (failure: DeviceFailure) => void) => Promise<LoadedEngine>;
  /** Called when the host has asked to close and nothing runs any more. */
  readonly onClosed: () => void;
}

/** Serves one engine to the host at the other end of a channel: loads it, and generates the images it is asked for. */
export function serveEngine({ channel, load, onClosed }: ServeEngineOptions): void {
  let engine: SdxlEngine | undefined;
  const controllers = new Map<number, AbortController>();
  /** Settles when every image so far has ended; it never fails. */
  let idle: Promise<void> = Promise.resolve();

  async function start(order: LoadOrder): Promise<void> {
    try {
      const loaded = await load(order, (failure) => channel.send({ kind: "device-failed", failure }));
      engine = loaded.engine;
      const { info, graphs, notes } = engine;
      const { loadMs, warmUpMs } = loaded;
      channel.send({
        kind: "ready",
        info,
        graphs,
        notes,
        startUp: { loadMs, warmUpMs },
        memoryBytes: process.memoryUsage.rss(),
      });
    } catch (error) {
      channel.send(loadFailure(error));
    }
  }

  type GenerateMessage = Extract<HostMessage, { kind: "generate" }>;

  async function generate({ id, request }: GenerateMessage, signal: AbortSignal): Promise<void> {
    try {
      if (engine === undefined) {
        throw new Error("asked to generate before the model was loaded");
      }
      const onEvent = (event: GenerationEvent) => channel.send({ kind: "event", id, event });
      const image = await engine.generate(request, { signal, onEvent });
      channel.send({ kind: "done", id, image, memoryBytes: process.memoryUsage.rss() });
    } catch (error) {
      channel.send(
        signal.aborted ? { kind: "cancelled", id } : { kind: "failed", id, error: generationFailure(error) },
      );
    } finally {
      controllers.delete(id);
    }
  }

  channel.onMessage((message) => {
    switch (message.kind) {
      case "load":
        void start(message);
        break;
      case "generate": {
        const controller = new AbortController();
        controllers.set(message.id, controller);
        idle = idle.then(() => generate(message, controller.signal));
        break;
      }
      case "cancel":
        controllers.get(message.id)?.abort();
        break;
      case "close":
        for (const controller of controllers.values()) {
          controller.abort();
        }
        void idle.then(() => engine?.release()).then(onClosed);
        break;
    }
  });
}

function loadFailure(error: unknown): LoadFailedMessage {
  const message = error instanceof Error ? error.message : String(error);
  return error instanceof ModelFolderError
    ? { kind: "load-failed", message, fault: { ...error.fault, folder: error.folder } }
    : { kind: "load-failed", message };
}

function generationFailure(error: unknown): GenerationFailure {
  if (!(error instanceof GenerationError)) {
    return { kind: "failed", message: "the engine failed", violations: [], cause: describe(error) };
  }
  return {
    kind: error.kind,
    message: error.message,
    violations: error.violations,
    ...(error.cause !== undefined && { cause: describe(error.cause) }),
  };
}

function describe(cause: unknown): string {
  return cause instanceof Error ? (cause.stack ?? cause.message) : String(cause);
}

/**
 * Create the channel to the parent process and start the heartbeat. When the channel closes, this process is killed at once, so that no
 * engine outlives its host.
 */
export function createProcessChannel(): HostChannel {
  const die = () => process.kill(process.pid, "SIGKILL");
  process.on("disconnect", die);
  if (!process.connected) {
    die();
  }
  startHeartbeat();
  return {
    send(message) {
      // A failure means that the host has exited; `disconnect` follows.
      process.send?.(message, undefined, undefined, () => {});
    },
    onMessage(listener) {
      process.on("message", (message) => {
        if (isHostMessage(message)) {
          listener(message);
        }
      });
    },
  };
}
