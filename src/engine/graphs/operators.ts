import type { ExecutionProvider } from "../device.js";

/** How a graph writes what onnxruntime has an operator of its own for (`com.microsoft`): with that operator, or in ONNX's. */
export type OperatorForm = "fused" | "plain";

/** What a graph is made of where several operators give the same. */
export interface Operators {
  /** MultiHeadAttention, or two products with a softmax between them. */
  readonly attention: OperatorForm;
  /** The same, where each token sees those before it alone. */
  readonly causalAttention: OperatorForm;
  /** QuickGelu, or x · sigmoid(α · x). */
  readonly quickGelu: OperatorForm;
  /**
   * Tables of a type that the graph does not compute in. `rows`: each run casts the rows that it reads, so that the table stays in its file.
   * `table`: the whole table is cast when the graph is loaded, for providers that keep their own copy of all weights, and may have no kernel for
   * the stored type.
   */
  readonly cast: "rows" | "table";
}

const plain: Operators = { attention: "plain", causalAttention: "plain", quickGelu: "plain", cast: "table" };
const fused: Operators = { attention: "fused", causalAttention: "fused", quickGelu: "fused", cast: "table" };

/** By the kernels of onnxruntime 1.30: docs/OperatorKernels.md and the sources of the providers. */
const byProvider: Readonly<Record<ExecutionProvider, Operators>> = {
  cpu: { ...fused, cast: "rows" },
  cuda: fused,
  // TensorRT reads ONNX's operators alone.
  tensorrt: plain,
  // Its MultiHeadAttention has no causal mask in every version.
  webgpu: { ...fused, causalAttention: "plain" },
  coreml: plain,
  // Its MultiHeadAttention takes the attribute `unidirectional`, and ignores it.
  dml: { ...fused, causalAttention: "plain" },
};

/** The operators of graphs for a provider. What it has no kernel for, onnxruntime runs on the CPU, and copies to and fro. */
export function operatorsFor(provider: ExecutionProvider): Operators {
  return byProvider[provider];
}
