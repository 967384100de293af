import { WeightError } from "../weights/tensor-location.js";
import type { BuiltGraph, GraphBuilder, Value } from "./graph-builder.js";
import {
  attention,
  batchOf,
  convolution,
  countOf,
  fromRows,
  gelu,
  groupNorm,
  type Images,
  layerNorm,
  linear,
  resnet,
  silu,
  type TimeEmbedding,
  toRows,
  upsample,
} from "./layers.js";

/** Facts of diffusers' `UNet2DConditionModel` that the tensors' names and shapes do not contain. */
export interface UnetPlan {
  /** Heads at each level, from the largest images down. */
  readonly heads: readonly number[];
  /** Width of the text's hidden states. */
  readonly contextWidth: number;
  /** Width of the text's summary. */
  readonly pooledWidth: number;
  readonly groups: number;
  readonly eps: number;
  readonly flipSinToCos: boolean;
  readonly frequencyShift: number;
  /** Width of the embedding of each of the six size numbers. */
  readonly timeIdWidth: number;
  /** Resnets of each down block; an up block has one more. Undefined: as many as there are tensors for. */
  readonly layers?: readonly number[] | undefined;
  /** Blocks in each transformer of a level; undefined if the configuration has none, or one for each transformer. */
  readonly depths?: readonly number[] | undefined;
  /** Which blocks have transformers; undefined: those whose tensors exist. */
  readonly attends?: {
    readonly down: readonly boolean[] | undefined;
    readonly up: readonly boolean[] | undefined;
    readonly middle: boolean | undefined;
  };
}

const timeIds = 6;

/** Builds SDXL's UNet and its relatives. Which blocks there are comes from the names of the tensors. */
export function buildUnet(g: GraphBuilder, plan: UnetPlan): BuiltGraph {
  const [, inChannels = 0] = g.shape("conv_in.weight");
  const sample = g.input("sample", g.compute, ["batch", inChannels, "height", "width"]);
  const time = buildTimeEmbedding(g, plan);
  const batch = batchOf(g, sample);
  const context = g.input("encoder_hidden_states", g.compute, ["batch", "tokens", plan.contextWidth]);
  const text = {
    rows: g.node("Reshape", [context, g.ints(-1, plan.contextWidth)]),
    width: plan.contextWidth,
  };
  const norm = { groups: plan.groups, eps: plan.eps };
  const levels = plan.heads.length;

  const step = (x: Images, block: string, i: number): Images =>
    resnet(g, x, `${block}.resnets.${i}`, { ...norm, time });
  /** Apply the transformer that follows a resnet, if it exists or is required. */
  const attend = (x: Images, block: string, i: number, level: number, wanted: boolean | undefined): Images => {
    const name = `${block}.attentions.${i}`;
    if (wanted === false || !(wanted || g.has(`${name}.norm.weight`))) {
      return x;
    }
    const heads = plan.heads[level] ?? 1;
    return buildTransformer(g, x, name, { heads, groups: plan.groups, batch, text, depth: plan.depths?.[level] });
  };
  const resnets = (block: string, wanted: number | undefined): number =>
    wanted ?? countOf(g, (i) => `${block}.resnets.${i}.conv1.weight`);

  let x = convolution(g, { value: sample, channels: inChannels }, "conv_in");
  const skips = [x];
  for (let level = 0; level < levels; level++) {
    const block = `down_blocks.${level}`;
    const count = resnets(block, plan.layers?.[level]);
    for (let i = 0; i < count; i++) {
      x = attend(step(x, block, i), block, i, level, plan.attends?.down?.[level]);
      skips.push(x);
    }
    if (level < levels - 1) {
      x = convolution(g, x, `${block}.downsamplers.0.conv`, { stride: 2 });
      skips.push(x);
    }
  }
  const middle = plan.attends?.middle;
  const middles = resnets("mid_block", middle === true ? 2 : undefined);
  for (let i = 0; i < middles; i++) {
    // The last resnet of the middle has no transformer behind it.
    x = attend(step(x, "mid_block", i), "mid_block", i, levels - 1, i < middles - 1 ? middle : undefined);
  }
  for (let up = 0; up < levels; up++) {
    const block = `up_blocks.${up}`;
    const level = levels - 1 - up;
    const down = plan.layers?.[level];
    const count = resnets(block, down === undefined ? undefined : down + 1);
    for (let i = 0; i < count; i++) {
      x = attend(step(join(g, x, skips), block, i), block, i, level, plan.attends?.up?.[up]);
    }
    if (up < levels - 1) {
      x = upsample(g, x, `${block}.upsamplers.0`);
    }
  }
  const normal = groupNorm(g, x, "conv_norm_out", norm);
  x = convolution(g, { ...normal, value: silu(g, normal.value) }, "conv_out");
  g.output(x.value, "out_sample", ["batch", x.channels, "height", "width"]);
  return g.build();
}

/** The images beside those of the same size from the way down. */
function join(g: GraphBuilder, x: Images, skips: Images[]): Images {
  const skip = skips.pop();
  if (skip === undefined) {
    throw new WeightError("unet", "as many resnets on the way up as values from the way down", "more");
  }
  return { ...x, value: g.node("Concat", [x.value, skip.value], { axis: 1 }), channels: x.channels + skip.channels };
}

/** Time, size and summary of the text in one vector an image, after its SiLU. */
function buildTimeEmbedding(g: GraphBuilder, plan: UnetPlan): TimeEmbedding {
  const [width = 0, timeWidth = 0] = g.shape("time_embedding.linear_1.weight");
  const timestep = g.input("timestep", "float32", ["steps"]);
  const textEmbeds = g.input("text_embeds", g.compute, ["batch", plan.pooledWidth]);
  const sizes = g.input("time_ids", "float32", ["batch", timeIds]);
  const embed = (x: Value, name: string, from: number): Value => {
    const inner = linear(g, x, `${name}.linear_1`, [from, width]);
    return linear(g, silu(g, inner), `${name}.linear_2`, [width, width]);
  };

  let times = sinusoids(g, timestep, timeWidth, plan);
  if (g.has("time_embedding.cond_proj.weight")) {
    const [, guidanceWidth = 0] = g.shape("time_embedding.cond_proj.weight");
    const guidance = g.input("timestep_cond", g.compute, ["batch", guidanceWidth]);
    times = g.node("Add", [times, linear(g, guidance, "time_embedding.cond_proj", [guidanceWidth, timeWidth])]);
  }
  const sizesWidth = timeIds * plan.timeIdWidth;
  const flat = g.node("Reshape", [sizes, g.ints(-1)]);
  const sizeRows = g.node("Reshape", [sinusoids(g, flat, plan.timeIdWidth, plan), g.ints(-1, sizesWidth)]);
  const added = g.node("Concat", [textEmbeds, sizeRows], { axis: 1 });
  const sum = g.node("Add", [
    embed(times, "time_embedding", timeWidth),
    embed(added, "add_embedding", plan.pooledWidth + sizesWidth),
  ]);
  return { value: silu(g, sum), width };
}

/**
 * Sines and cosines of each number at falling frequencies: diffusers' `get_timestep_embedding`. Always float32: half precision cannot
 * distinguish adjacent timesteps.
 */
function sinusoids(g: GraphBuilder, numbers: Value, width: number, plan: UnetPlan): Value {
  const half = width / 2;
  const exponent = Math.fround(-Math.log(10000));
  const frequencies = Float32Array.from({ length: half }, (_, i) =>
    Math.exp(Math.fround(Math.fround(exponent * i) / (half - plan.frequencyShift))),
  );
  const column = g.node("Unsqueeze", [numbers, g.ints(1)]);
  const angles = g.node("Mul", [column, g.floats(frequencies, [1, half], "float32")]);
  const [sine, cosine] = [g.node("Sin", [angles]), g.node("Cos", [angles])];
  const joined = g.node("Concat", plan.flipSinToCos ? [cosine, sine] : [sine, cosine], { axis: 1 });
  return g.compute === "float32" ? joined : g.cast(joined, g.compute);
}

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
  const gates = gelu(g, half(inner));
  return linear(g, g.node("Mul", [values, gates]), `${name}.net.2`, [inner, width]);
}
