import "./onnxruntime-telemetry.js";
import { readdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, dirname, join } from "node:path";
import { env, InferenceSession, listSupportedBackends, Tensor } from "onnxruntime-node";
import type { ExecutionProvider, Placement } from "./device.js";
import { decodeFloat16, encodeFloat16 } from "./floating-point.js";
import type { GraphSource, InputSpec, InputTensor, ModelSession, OpenSession } from "./sessions.js";

/** Where and how graphs run. */
export interface SessionOptions {
  /** @default the CPU */
  readonly placement?: Placement;
  /** CPU threads of one run. @default the number of CPUs available to the process; more threads are slower */
  readonly threads?: number | undefined;
  /** Existing folder for a profile of each session, named after the folder of its graph and complete once the session is released. */
  readonly profileFolder?: string | undefined;
}

/** This platform's build of onnxruntime. */
export interface Runtime {
  readonly version: string;
  /** Its providers. Those outside the package must be installed. Opening a session shows whether one works. */
  readonly providers: readonly { readonly name: string; readonly bundled: boolean }[];
}

export function describeRuntime(): Runtime {
  return { version: env.versions.node ?? env.versions.common, providers: listSupportedBackends() };
}

/** Makes the loader of graphs for one execution provider of onnxruntime. What the provider cannot run, onnxruntime runs on the CPU. */
export function createSessionOpener(options: SessionOptions = {}): OpenSession {
  const { placement = { provider: "cpu" }, profileFolder, threads = availableParallelism() } = options;
  return async (graph) => {
    const profile = profileFolder === undefined ? undefined : join(profileFolder, graph.subModel);
    const session = await openGraph(graph, {
      ...(await sessionOptions(graph, placement, threads)),
      ...(profile !== undefined && { enableProfiling: true, profileFilePrefix: profile }),
    });
    return createModelSession(session, () => {
      if (profile !== undefined) {
        session.endProfiling();
      }
      return session.release();
    });
  };
}

function openGraph(graph: GraphSource, options: InferenceSession.SessionOptions): Promise<InferenceSession> {
  return graph.kind === "exported"
    ? InferenceSession.create(graph.path, options)
    : InferenceSession.create(graph.model, options);
}

async function sessionOptions(
  graph: GraphSource,
  placement: Placement,
  threads: number,
): Promise<InferenceSession.SessionOptions> {
  const { extra, ...ofWeights } = await weightOptions(graph, placement.provider);
  const quiet = { intra_op: { allow_spinning: "0" }, inter_op: { allow_spinning: "0" } };
  return {
    executionProviders: [providerOption(placement)],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: "sequential",
    // Errors only: its warnings about unused weights help only the model's author.
    logSeverityLevel: 3,
    ...ofWeights,
    // Waiting threads that spin take the cores from the rest of the machine, and are slower as soon as there is a rest.
    extra: { session: { ...quiet, ...extra } },
  };
}

/** `COREML_FLAG_CREATE_MLPROGRAM`: the older form of CoreML's models has neither half precision nor layer normalization. */
const coreMlProgram = 0x010;

function providerOption({ provider, index }: Placement): InferenceSession.ExecutionProviderConfig {
  if (provider === "coreml") {
    return { name: provider, coreMlFlags: coreMlProgram };
  }
  return index === undefined ? provider : { name: provider, deviceId: index };
}

type WeightOptions = Pick<InferenceSession.SessionOptions, "graphOptimizationLevel" | "enableCpuMemArena"> & {
  /** Entries of the session's configuration. */
  readonly extra: Readonly<Record<string, string>>;
};

/**
 * Session options for the residence of the weights.
 *
 * Mapped weights stay in their files only if onnxruntime neither rearranges them nor computes with them at load; both make copies. The
 * memory arena is off, because it would keep every weight that a run converted.
 */
async function weightOptions(graph: GraphSource, provider: ExecutionProvider): Promise<WeightOptions> {
  const mapped = { enableCpuMemArena: false, extra: { disable_prepacking: "1" } } as const;
  if (graph.kind === "exported") {
    return provider === "cpu" && (await hasExternalData(graph.path))
      ? { ...mapped, graphOptimizationLevel: "extended" }
      : { graphOptimizationLevel: "all", enableCpuMemArena: true, extra: {} };
  }
  const root = { model_external_initializers_file_folder_path: graph.root };
  return graph.residence === "mapped"
    ? // The graph has the fused operators already; the optimizers find nothing and double the load time.
      { ...mapped, graphOptimizationLevel: "disabled", extra: { ...mapped.extra, ...root } }
    : { graphOptimizationLevel: "all", enableCpuMemArena: true, extra: root };
}

/** Whether weights lie beside the graph: `model.onnx_data` of optimum and transformers, `model.onnx.data` of PyTorch, `weights.pb` of older ones. */
async function hasExternalData(file: string): Promise<boolean> {
  const name = basename(file);
  const siblings = await readdir(dirname(file)).catch((): string[] => []);
  return siblings.some(
    (sibling) => sibling.startsWith(`${name}_data`) || sibling === `${name}.data` || sibling === "weights.pb",
  );
}

function createModelSession(session: InferenceSession, release: () => Promise<void>): ModelSession {
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
    release,
  };
}
function createTensor({ data, shape }: InputTensor, { type, shape: wantedShape }: InputSpec): Tensor {
  const dimensions = wantedShape.length === 0 && data.length === 1 ? [] : shape;
  const floats = () => (data instanceof Float32Array ? data : Float32Array.from(data));
  switch (type) {
    case "float32":
      return new Tensor("float32", floats(), dimensions);
    case "float16":
      return createHalfTensor(encodeFloat16(floats()), dimensions);
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

function createHalfTensor(bits: Uint16Array, dimensions: readonly number[]): Tensor {
  const tensor = new Tensor("float16", bits, dimensions);
  // Where JavaScript has a Float16Array (from Node 24 on) the tensor makes one of the bits, which the native part of onnxruntime-node 1.30
  // reads as empty: "not enough space: expected 512, got 0". The bits themselves it reads everywhere.
  return Object.defineProperty(tensor, "data", { value: bits });
}

function toFloats({ type, data }: Tensor): Float32Array {
  if (data instanceof Float32Array) {
    return data;
  }
  // If JavaScript has Float16Array, the data is one; the bits are the same.
  if (type === "float16" && ArrayBuffer.isView(data)) {
    return decodeFloat16(new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2));
  }
  if (data instanceof Float64Array) {
    return Float32Array.from(data);
  }
  throw new Error(`the graph gives an output of type ${type}, which the engine cannot read`);
}
