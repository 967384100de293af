import { WeightError } from "../weights/tensor-location.js";
import type { GraphBuilder, Value } from "./graph-builder.js";
import { attention, countOf, fromRows, groupNorm, type Images, layerNorm, linear, toRows } from "./layers.js";

export interface TransformerOptions {
  readonly heads: number;
  readonly groups: number;
  /** How many images there are, as a shape of one number. */
  readonly batch: Value;
  /** The text's hidden states, as rows. */
  readonly text: { readonly rows: Value; readonly width: number };
  /** Blocks that there have to be; undefined: as many as there are tensors for. */
  readonly depth: number | undefined;
}

/** diffusers' `Transformer2DModel`: each pixel attends to all others and to the text, beside a way around. */
export function buildTransformer(g: GraphBuilder, x: Images, name: string, options: TransformerOptions): Images {
  const { groups, depth } = options;
  const blocks = depth ?? countOf(g, (i) => `${name}.transformer_blocks.${i}.norm1.weight`);
  if (blocks === 0) {
    throw new WeightError(name, "transformer blocks", "none");
  }
  const [width = 0] = g.shape(`${name}.proj_in.weight`);
  const normal = groupNorm(g, x, `${name}.norm`, { groups, eps: 1e-6 });
  let y = linear(g, toRows(g, normal), `${name}.proj_in`, [x.channels, width]);
  for (let i = 0; i < blocks; i++) {
    y = buildBlock(g, y, `${name}.transformer_blocks.${i}`, { ...options, width });
  }
  const back = fromRows(g, linear(g, y, `${name}.proj_out`, [width, x.channels]), x);
  return { ...x, value: g.node("Add", [back.value, x.value]) };
}

/** Attention among the pixels, attention to the text, a gated layer; each after a norm and added to what came in. */
function buildBlock(
  g: GraphBuilder,
  x: Value,
  name: string,
  { heads, width, batch, text }: TransformerOptions & { readonly width: number },
): Value {
  const attend = (part: string, from: Value, of: Value, ofWidth: number): Value => {
    const query = linear(g, from, `${part}.to_q`, [width, width]);
    const [key, value] = ["to_k", "to_v"].map((kind) => linear(g, of, `${part}.${kind}`, [ofWidth, width]));
    const mixed = attention(g, [query, key ?? "", value ?? ""], { heads, width, batch });
    return linear(g, mixed, `${part}.to_out.0`, [width, width]);
  };
  const first = layerNorm(g, x, `${name}.norm1`, width);
  const seen = g.node("Add", [x, attend(`${name}.attn1`, first, first, width)]);
  const second = layerNorm(g, seen, `${name}.norm2`, width);
  const read = g.node("Add", [seen, attend(`${name}.attn2`, second, text.rows, text.width)]);
  const third = layerNorm(g, read, `${name}.norm3`, width);
  return g.node("Add", [read, gatedLayer(g, third, `${name}.ff`, width)]);
}

/** GEGLU: the first half of the rows of the weight makes the values, the second their gates. */
function gatedLayer(g: GraphBuilder, x: Value, name: string, width: number): Value {
  const [, inner = 0] = g.shape(`${name}.net.2.weight`);
  const half = (start: number): Value =>
    linear(g, x, `${name}.net.0.proj`, [width, 2 * inner], { rows: [start, inner] });
  const values = half(0);
  const gates = g.node("Gelu", [half(inner)]);
  return linear(g, g.node("Mul", [values, gates]), `${name}.net.2`, [inner, width]);
}
