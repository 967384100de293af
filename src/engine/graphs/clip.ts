import type { BuiltGraph, GraphBuilder, Value } from "./graph-builder.js";
import { attention, batchOf, countOf, gelu, layerNorm, linear, quickGelu } from "./layers.js";

/** Facts of a CLIP text model that the tensors' names and shapes do not contain. */
export interface ClipPlan {
  readonly heads: number;
  readonly activation: "gelu" | "quick_gelu";
  readonly eps: number;
  /** Layers that its configuration names; undefined: as many as there are tensors for. */
  readonly layers?: number | undefined;
  /** The token whose row becomes the summary. 2 is the older form of "the largest id of the text". */
  readonly endToken: number;
}

const oldEndToken = 2;

/**
 * Builds a CLIP text encoder: the hidden states before each layer and, where there is a projection, the projected summary. Without one, the
 * last layer is not computed at all. A run copies the outputs alone that it is asked for.
 */
export function buildClip(g: GraphBuilder, plan: ClipPlan): BuiltGraph {
  const layers = plan.layers ?? countOf(g, (i) => `${layerName(i)}.layer_norm1.weight`);
  const [vocabulary = 0, width = 0] = g.shape("text_model.embeddings.token_embedding.weight");
  const [tokens = 0] = g.shape("text_model.embeddings.position_embedding.weight");
  const ids = g.input("input_ids", "int64", ["batch", tokens]);
  const batch = batchOf(g, ids);
  const words = g.gather("text_model.embeddings.token_embedding.weight", [vocabulary, width], ids);
  const positions = g.weight("text_model.embeddings.position_embedding.weight", [tokens, width]);
  const states = (rows: Value): Value => g.node("Reshape", [rows, g.ints(-1, tokens, width)]);
  const projected = g.has("text_projection.weight");

  let x = g.node("Reshape", [g.node("Add", [words, positions]), g.ints(-1, width)]);
  g.output(states(x), "hidden_states.0", ["batch", tokens, width]);
  for (let i = 0; i < layers - 1; i++) {
    x = encoderLayer(g, x, layerName(i), { ...plan, width, batch, tokens });
    g.output(states(x), `hidden_states.${i + 1}`, ["batch", tokens, width]);
  }
  if (!projected) {
    skipLastLayer(g, layerName(layers - 1));
    return g.build();
  }
  x = encoderLayer(g, x, layerName(layers - 1), { ...plan, width, batch, tokens });
  const marked = plan.endToken === oldEndToken ? ids : g.node("Equal", [ids, g.ints(plan.endToken)]);
  // The first of the largest. Only float32 and int32 have kernels of ArgMax everywhere.
  const ends = g.node("ArgMax", [g.cast(marked, "float32")], { axis: 1, keepdims: 1 });
  const summary = g.node("GatherND", [states(x), ends], { batch_dims: 1 });
  const { transposed = false, shape } = g.location("text_projection.weight");
  const projection = (transposed ? shape[1] : shape[0]) ?? 0;
  const normal = layerNorm(g, summary, "text_model.final_layer_norm", width, plan.eps);
  g.output(linear(g, normal, "text_projection", [width, projection]), "text_embeds", ["batch", projection]);
  return g.build();
}

function layerName(index: number): string {
  return `text_model.encoder.layers.${index}`;
}

type LayerOptions = ClipPlan & { readonly width: number; readonly batch: Value; readonly tokens: number };

function encoderLayer(g: GraphBuilder, x: Value, name: string, options: LayerOptions): Value {
  const { heads, activation, eps, width, batch, tokens } = options;
  const square = [width, width] as const;
  const normal = layerNorm(g, x, `${name}.layer_norm1`, width, eps);
  const project = (part: string, from: Value): Value => linear(g, from, `${name}.self_attn.${part}`, square);
  const parts = [project("q_proj", normal), project("k_proj", normal), project("v_proj", normal)] as const;
  const mixed = project("out_proj", attention(g, parts, { heads, width, batch, causalTokens: tokens }));
  const attended = g.node("Add", [x, mixed]);

  const [inner = 0] = g.shape(`${name}.mlp.fc1.weight`);
  const second = layerNorm(g, attended, `${name}.layer_norm2`, width, eps);
  const wide = linear(g, second, `${name}.mlp.fc1`, [width, inner]);
  const active = activation === "gelu" ? gelu(g, wide) : quickGelu(g, wide, 1.702);
  return g.node("Add", [attended, linear(g, active, `${name}.mlp.fc2`, [inner, width])]);
}

/** The parts that SDXL has no use for in its first encoder. */
function skipLastLayer(g: GraphBuilder, name: string): void {
  const parts = [
    "layer_norm1",
    "layer_norm2",
    "mlp.fc1",
    "mlp.fc2",
    ...["q", "k", "v"].map((x) => `self_attn.${x}_proj`),
  ];
  for (const part of [
    ...parts.map((x) => `${name}.${x}`),
    `${name}.self_attn.out_proj`,
    "text_model.final_layer_norm",
  ]) {
    g.skip(`${part}.weight`);
    g.skip(`${part}.bias`);
  }
}
