import { setImmediate } from "node:timers/promises";
import { GenerationError } from "./engine.js";
import type { SubModelName } from "./graph-files.js";

/** Numbers with a shape, row-major. */
export interface FloatTensor {
  readonly data: Float32Array;
  readonly shape: readonly number[];
}

/** An input of a graph: the session converts it to the graph's element type. */
export interface InputTensor {
  readonly data: Float32Array | readonly number[];
  readonly shape: readonly number[];
}

/** An input of a graph. */
export interface InputSpec {
  readonly type: string;
  /** Symbolic dimensions are texts. A scalar has none. */
  readonly shape: readonly (number | string)[];
}

/** Gives an output of a run by its name. */
export type OutputReader = (name: string) => FloatTensor;

/** One loaded graph. It runs once at a time and blocks the thread while it does. */
export interface ModelSession {
  readonly inputs: ReadonlyMap<string, InputSpec>;
  readonly outputs: readonly string[];
  /**
   * Runs the graph on those of `feeds` that it has inputs for and returns the outputs asked for, as float32.
   *
   * A feed of one value is passed as a scalar if the graph takes a scalar. Integers are cut off towards zero.
   */
  run(feeds: Readonly<Record<string, InputTensor>>, wanted: readonly string[]): Promise<OutputReader>;
  release(): Promise<void>;
}

/** Loads one graph. */
export type OpenSession = (graph: GraphSource) => Promise<ModelSession>;

/** A graph to open. */
export type GraphSource = ExportedGraph | BuiltGraphSource;

/** A file that another program exported, with its weights inside or in files beside it. */
export interface ExportedGraph {
  readonly kind: "exported";
  readonly subModel: SubModelName;
  /** Path inside the model's folder, for messages. */
  readonly file: string;
  /** Absolute path. */
  readonly path: string;
}

/** A graph that the engine has built over the weights of a model. */
export interface BuiltGraphSource {
  readonly kind: "built";
  readonly subModel: SubModelName;
  /** Path inside the model's folder of the weights, for messages. */
  readonly file: string;
  /** The graph in ONNX form, which names the files of its weights. */
  readonly model: Uint8Array;
  /** Absolute path of the folder that those names are relative to. */
  readonly root: string;
  readonly residence: Residence;
}

/**
 * Location of the weights of a loaded model. `mapped`: in their files, in the stored type, converted at each use; processes share the
 * pages, and the system can evict them. `prepared`: in the process's own memory, in
 * float32, arranged for the fastest kernels.
 */
export type Residence = "mapped" | "prepared";

/**
 * Runs a graph once as a part of generation: not when the generation is aborted, and with a failure as GenerationError.
 *
 * @throws the signal's reason when it is aborted; GenerationError `failed` when the run fails.
 */
export async function runSubModel(
  session: ModelSession,
  feeds: Readonly<Record<string, InputTensor>>,
  wanted: readonly string[],
  signal: AbortSignal,
): Promise<OutputReader> {
  // A run blocks the thread. The event loop turns once before it, so that an abort that has arrived is seen.
  await setImmediate();
  signal.throwIfAborted();
  try {
    return await session.run(feeds, wanted);
  } catch (cause) {
    const outOfMemory = cause instanceof Error && /alloc|out of memory/iu.test(cause.message);
    const reason = outOfMemory
      ? "the engine ran out of memory; a smaller image needs less"
      : "the model failed while it ran";
    throw new GenerationError("failed", reason, { cause });
  }
}
