import { availableParallelism } from "node:os";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { decodeFloat16, encodeFloat16 } from "./float16.js";

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

/** Where and how graphs run. */
export interface SessionOptions {
  /** Threads of one run. @default what the process may use at once, because more of them slow each other down */
  readonly threads?: number;
}

/** Loads one ONNX file, with external data beside it where it has some. */
export type OpenSession = (file: string) => Promise<ModelSession>;

/** onnxruntime's execution provider behind `createSessionOpener`. */
export const executionProvider = "cpu";

/** Makes the loader of graphs for onnxruntime's CPU provider. */
export function createSessionOpener({ threads = availableParallelism() }: SessionOptions = {}): OpenSession {
  const options: InferenceSession.SessionOptions = {
    executionProviders: [executionProvider],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: "sequential",
    graphOptimizationLevel: "all",
    // Errors only: its warnings about unused weights help nobody who did not make the model.
    logSeverityLevel: 3,
    // Waiting threads that spin take the cores from the rest of the machine, and are slower as soon as there is a rest.
    extra: { session: { intra_op: { allow_spinning: "0" }, inter_op: { allow_spinning: "0" } } },
  };
  return async (file) => {
    const session = await InferenceSession.create(file, options);
    if (!takesFloat16 && session.inputMetadata.some((input) => input.isTensor && input.type === "float16")) {
      await session.release();
      throw new Error(
        `onnxruntime-node cannot feed float16 inputs on Node ${process.versions.node}: use Node 20 or 22, or a float32 export`,
      );
    }
    return createModelSession(session);
  };
}

/**
 * Where JavaScript has a Float16Array (Node 24), onnxruntime-node 1.30 makes one of our bits, and its native part then reads it as empty:
 * "not enough space: expected 512, got 0".
 */
export const takesFloat16 = !("Float16Array" in globalThis);

function createModelSession(session: InferenceSession): ModelSession {
  const inputs = new Map<string, InputSpec>();
  for (const input of session.inputMetadata) {
    inputs.set(input.name, input.isTensor ? { type: input.type, shape: input.shape } : { type: "unknown", shape: [] });
  }
  return {
    inputs,
    outputs: session.outputNames,
    async run(feeds, wanted) {
      const tensors: Record<string, Tensor> = {};
      for (const [name, spec] of inputs) {
        const feed = feeds[name];
        if (feed === undefined) {
          throw new Error(`the graph wants an input "${name}", which the engine does not have`);
        }
        tensors[name] = createTensor(feed, spec);
      }
      const results = await session.run(tensors, wanted);
      return (name) => {
        const tensor = results[name];
        if (tensor === undefined) {
          throw new Error(`the graph has no output "${name}"`);
        }
        return { data: toFloats(tensor), shape: tensor.dims };
      };
    },
    release: () => session.release(),
  };
}

function createTensor({ data, shape }: InputTensor, { type, shape: wantedShape }: InputSpec): Tensor {
  const dimensions = wantedShape.length === 0 && data.length === 1 ? [] : shape;
  const floats = () => (data instanceof Float32Array ? data : Float32Array.from(data));
  switch (type) {
    case "float32":
      return new Tensor("float32", floats(), dimensions);
    case "float16":
      return new Tensor("float16", encodeFloat16(floats()), dimensions);
    case "float64":
      return new Tensor("float64", Float64Array.from(data), dimensions);
    case "int32":
      return new Tensor("int32", Int32Array.from(data, Math.trunc), dimensions);
    case "int64":
      return new Tensor(
        "int64",
        BigInt64Array.from(Array.from(data, (value) => BigInt(Math.trunc(value)))),
        dimensions,
      );
    default:
      throw new Error(`the graph wants an input of type ${type}, which the engine cannot make`);
  }
}

function toFloats({ type, data }: Tensor): Float32Array {
  if (data instanceof Float32Array) {
    return data;
  }
  // Where the runtime of JavaScript knows float16, the data is no Uint16Array; the bits are the same.
  if (type === "float16" && ArrayBuffer.isView(data)) {
    return decodeFloat16(new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2));
  }
  if (data instanceof Float64Array) {
    return Float32Array.from(data);
  }
  throw new Error(`the graph gives an output of type ${type}, which the engine cannot read`);
}
