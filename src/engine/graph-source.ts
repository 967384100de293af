import type { SubModelFolder } from "./graph-files.js";

/** A graph to open. */
export type GraphSource = ExportedGraph | BuiltGraphSource;

/** A file that another program exported, with its weights inside or in files beside it. */
export interface ExportedGraph {
  readonly kind: "exported";
  readonly subModel: SubModelFolder;
  /** Path inside the model's folder, for messages. */
  readonly file: string;
  /** Absolute path. */
  readonly path: string;
}

/** A graph that the engine has built over the weights of a model. */
export interface BuiltGraphSource {
  readonly kind: "built";
  readonly subModel: SubModelFolder;
  /** Path inside the model's folder of the weights, for messages. */
  readonly file: string;
  /** The graph in ONNX form, which names the files of its weights. */
  readonly model: Uint8Array;
  /** Absolute path of the folder that those names are relative to. */
  readonly root: string;
  readonly residence: Residence;
}

/**
 * Where the weights are while the model is loaded. `mapped`: in their files, in the type that they are stored in, converted at each use;
 * the system shares the pages between processes and takes them back when it needs the room. `prepared`: in the process's own memory, in
 * float32, arranged for the fastest kernels.
 */
export type Residence = "mapped" | "prepared";
