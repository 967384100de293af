import type { GraphSource } from "./graph-source.js";

/** Numbers with a shape, row-major. */
export interface FloatTensor {
  readonly data: Float32Array;
  readonly shape: readonly number[];
}

/** What a graph is fed: the session converts to the element type that the graph wants. */
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
   * A feed of one value is given as a scalar where the graph wants a scalar. Integers are cut off towards zero.
   */
  run(feeds: Readonly<Record<string, InputTensor>>, wanted: readonly string[]): Promise<OutputReader>;
  release(): Promise<void>;
}

/** Loads one graph. */
export type OpenSession = (graph: GraphSource) => Promise<ModelSession>;
