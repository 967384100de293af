import { setImmediate } from "node:timers/promises";
import { GenerationError, type ScaledLora } from "./engine.js";
import { ModelFolderError } from "./folder-reader.js";
import { loraScaleInput } from "./graphs/graph-builder.js";
import type { LoraGraphs } from "./lora-graphs.js";
import type { ModelSession, OpenSession } from "./sessions.js";
import type { SubModels } from "./sub-models.js";
import { LoraError } from "./weights/lora.js";

/** The sub-models of an image, with its LoRAs. */
export interface AdaptedModels extends Pick<SubModels, "textEncoders" | "unet"> {
  /** What the text encoders differ in from the model's own: their LoRAs and scales. Empty without any. */
  readonly textKey: string;
}

/** Sessions of sets of LoRAs. The sets that were used last stay open; the weights that their sessions map are those of the model. */
export interface LoraSets {
  /**
   * Returns the sub-models for these LoRAs, and opens those that are not open. Those with scale 0 are left out, so that the image is the
   * model's own. Not while an image is generated.
   *
   * @throws GenerationError `failed` when they cannot be opened; the signal's reason when it is aborted meanwhile.
   */
  open(loras: readonly ScaledLora[], signal: AbortSignal): Promise<AdaptedModels>;
  release(): Promise<void>;
}

export interface LoraSetsOptions {
  /** Sub-models without LoRAs. */
  readonly base: Pick<SubModels, "textEncoders" | "unet">;
  readonly graphs: LoraGraphs;
  readonly openSession: OpenSession;
  /** Sets that stay open, if there is room for them. */
  readonly capacity: number;
  /** Whether the process may take so many bytes more. */
  readonly hasRoom: (bytes: number) => boolean;
  /** Checks the files of the model, which a set maps again. */
  readonly checkUnchanged: () => Promise<void>;
}

/** Sessions of a set by sub-model; a sub-model that no LoRA of the set changes has none. */
type OpenSet = Partial<Record<string, ModelSession>>;

export function createLoraSets(options: LoraSetsOptions): LoraSets {
  const { base, graphs, openSession, capacity } = options;
  /** By the names of the LoRAs, the last used at the end. */
  const sets = new Map<string, OpenSet>();

  async function close(key: string): Promise<void> {
    const set = sets.get(key);
    sets.delete(key);
    await releaseAll(set ?? {});
  }

  async function checkFiles(names: readonly string[]): Promise<void> {
    await options.checkUnchanged();
    await graphs.checkUnchanged(names);
  }

  async function openSet(names: readonly string[], signal: AbortSignal): Promise<OpenSet> {
    const set: OpenSet = {};
    try {
      await checkFiles(names);
      for (const graph of graphs.build(names)) {
        // Opening blocks the thread. The event loop turns once before it, so that an abort that has arrived is seen.
        await setImmediate();
        signal.throwIfAborted();
        set[graph.subModel] = await openSession(graph);
      }
      await setImmediate();
      signal.throwIfAborted();
      // A file can be replaced while it is opened.
      await checkFiles(names);
      return set;
    } catch (cause) {
      await releaseAll(set);
      signal.throwIfAborted();
      throw new GenerationError("failed", reasonOf(cause), { cause });
    }
  }

  return {
    async open(loras, signal) {
      const used = loras.filter(({ scale }) => scale !== 0).sort((a, b) => (a.name < b.name ? -1 : 1));
      if (used.length === 0) {
        return { textEncoders: base.textEncoders, unet: base.unet, textKey: "" };
      }
      const names = used.map(({ name }) => name);
      const key = JSON.stringify(names);
      let set = sets.get(key);
      if (set === undefined) {
        // First, so that there are never more in memory.
        for (const oldest of [...sets.keys()]) {
          if (sets.size >= capacity || !options.hasRoom(graphs.mappedBytes(names))) {
            await close(oldest);
          }
        }
        set = await openSet(names, signal);
      }
      sets.delete(key);
      sets.set(key, set);
      const adapt = (session: ModelSession, own: ModelSession | undefined) =>
        own === undefined ? session : withScales(own, used);
      const [first, second] = base.textEncoders;
      const inText = used.filter(({ name }) => graphs.changesText(name));
      return {
        textEncoders: [adapt(first, set["text_encoder"]), adapt(second, set["text_encoder_2"])],
        unet: adapt(base.unet, set["unet"]),
        textKey: inText.length === 0 ? "" : JSON.stringify(inText.map(({ name, scale }) => [name, scale])),
      };
    },
    async release() {
      await Promise.all([...sets.keys()].map(close));
    },
  };
}

async function releaseAll(set: OpenSet): Promise<void> {
  await Promise.all(Object.values(set).map((session) => session?.release()));
}

/** The session with the scales of its LoRAs as further inputs. */
function withScales(session: ModelSession, loras: readonly ScaledLora[]): ModelSession {
  const scales = Object.fromEntries(
    loras.map(({ scale }, index) => [loraScaleInput(index), { data: [scale], shape: [1] }]),
  );
  return { ...session, run: (feeds, wanted) => session.run({ ...feeds, ...scales }, wanted) };
}

/** For callers: without paths. */
function reasonOf(cause: unknown): string {
  return cause instanceof LoraError || cause instanceof ModelFolderError
    ? "a file of the model or of a LoRA was replaced while the worker runs; the worker has to be started again"
    : "the LoRAs could not be opened";
}
