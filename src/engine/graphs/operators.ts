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
  /** Gelu by the error function: onnxruntime's, or ONNX's, which is younger. */
  readonly gelu: OperatorForm;
  /**
   * Tables of a type that the graph does not compute in. `rows`: each run casts the rows that it reads, so that the table stays in its file.
   * `table`: the whole table is cast when the graph is loaded, for providers that keep their own copy of all weights, and may have no kernel for
   * the stored type.
   */
  readonly cast: "rows" | "table";
}

const onGpu: Operators = {
  attention: "fused",
  causalAttention: "plain",
  quickGelu: "fused",
  gelu: "plain",
  cast: "table",
};

/**
 * By the kernels of onnxruntime 1.30: docs/OperatorKernels.md, and the sources of the providers.
 *
 * Causal attention is fused on the CPU alone. WebGPU's kernel takes the attribute `unidirectional` and gives other values than the CPU's, up to
 * their own size; DirectML's never reads it. Only text encoders have such attention, over 77 tokens, where the plain form costs nothing to speak
 * of, so that CUDA has it too, whose kernel was not run.
 */
const byProvider: Readonly<Record<ExecutionProvider, Operators>> = {
  cpu: { ...onGpu, causalAttention: "fused", cast: "rows" },
  cuda: onGpu,
  webgpu: onGpu,
  // It has no kernel of ONNX's Gelu.
  dml: { ...onGpu, gelu: "fused" },
  // They read ONNX's operators alone.
  tensorrt: { ...onGpu, attention: "plain", quickGelu: "plain" },
  coreml: { ...onGpu, attention: "plain", quickGelu: "plain" },
};

/** The operators of graphs for a provider. What it has no kernel for, onnxruntime runs on the CPU, and copies to and fro. */
export function operatorsFor(provider: ExecutionProvider): Operators {
  return byProvider[provider];
}
