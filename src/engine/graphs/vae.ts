import type { BuiltGraph, GraphBuilder, Value } from "./graph-builder.js";
import {
  attention,
  convolution,
  countOf,
  fromRows,
  type GroupNormOptions,
  groupNorm,
  type Images,
  imagesOf,
  linear,
  resnet,
  silu,
  toRows,
  upsample,
} from "./layers.js";

/** Facts of diffusers' `AutoencoderKL` that the tensors' names and shapes do not contain. */
export interface VaePlan {
  readonly groups: number;
  /** Levels of the images' sizes; undefined, here and below: as the tensors have it. */
  readonly levels?: number | undefined;
  /** Resnets of a level of the encoder; the decoder has one more. */
  readonly layers?: number | undefined;
  /** Whether the middle has attention. */
  readonly attends?: boolean | undefined;
}

const eps = 1e-6;

/** Latents, as the decoder takes them, to images in −1 … 1. */
export function buildVaeDecoder(g: GraphBuilder, plan: VaePlan): BuiltGraph {
  const norm = { groups: plan.groups, eps };
  const [, first = 0] = g.shape("decoder.conv_in.weight");
  const channels = g.has("post_quant_conv.weight") ? (g.shape("post_quant_conv.weight")[1] ?? 0) : first;
  let x: Images = { value: g.input("latent_sample", g.compute, ["batch", channels, "height", "width"]), channels };
  if (g.has("post_quant_conv.weight")) {
    x = convolution(g, x, "post_quant_conv");
  }
  x = middle(g, convolution(g, x, "decoder.conv_in"), "decoder.mid_block", { ...norm, attends: plan.attends });
  const levels = plan.levels ?? countOf(g, (i) => `decoder.up_blocks.${i}.resnets.0.conv1.weight`);
  for (let level = 0; level < levels; level++) {
    const block = `decoder.up_blocks.${level}`;
    x = resnets(g, x, block, { ...norm, count: plan.layers === undefined ? undefined : plan.layers + 1 });
    // All levels but the last double the sides.
    if (level < levels - 1) {
      x = upsample(g, x, `${block}.upsamplers.0`);
    }
  }
  x = end(g, x, "decoder", norm);
  g.output(x.value, "sample", ["batch", x.channels, "image_height", "image_width"]);
  return g.build();
}

/** Images in −1 … 1 to mean and logarithm of the variance of their latents: [images, 2 · latent channels, height, width]. */
export function buildVaeEncoder(g: GraphBuilder, plan: VaePlan): BuiltGraph {
  const norm = { groups: plan.groups, eps };
  const [, channels = 0] = g.shape("encoder.conv_in.weight");
  const input = g.input("sample", g.compute, ["batch", channels, "image_height", "image_width"]);
  let x = convolution(g, { value: input, channels }, "encoder.conv_in");
  const levels = plan.levels ?? countOf(g, (i) => `encoder.down_blocks.${i}.resnets.0.conv1.weight`);
  for (let level = 0; level < levels; level++) {
    const block = `encoder.down_blocks.${level}`;
    x = resnets(g, x, block, { ...norm, count: plan.layers });
    if (level < levels - 1) {
      // One more row below and column to the right, not around.
      x = convolution(g, x, `${block}.downsamplers.0.conv`, { stride: 2, pads: [0, 0, 1, 1] });
    }
  }
  x = end(g, middle(g, x, "encoder.mid_block", { ...norm, attends: plan.attends }), "encoder", norm);
  if (g.has("quant_conv.weight")) {
    x = convolution(g, x, "quant_conv");
  }
  g.output(x.value, "latent_parameters", ["batch", x.channels, "height", "width"]);
  return g.build();
}

function resnets(
  g: GraphBuilder,
  x: Images,
  block: string,
  { count: wanted, ...norm }: GroupNormOptions & { readonly count: number | undefined },
): Images {
  const count = wanted ?? countOf(g, (i) => `${block}.resnets.${i}.conv1.weight`);
  let y = x;
  for (let i = 0; i < count; i++) {
    y = resnet(g, y, `${block}.resnets.${i}`, norm);
  }
  return y;
}

function end(g: GraphBuilder, x: Images, side: string, norm: GroupNormOptions): Images {
  const normal = groupNorm(g, x, `${side}.conv_norm_out`, norm);
  return convolution(g, { ...normal, value: silu(g, normal.value) }, `${side}.conv_out`);
}

/** Names of the attention's parts, and those that older files have. */
const attentionParts = {
  query: ["to_q", "query"],
  key: ["to_k", "key"],
  value: ["to_v", "value"],
  out: ["to_out.0", "proj_attn"],
} as const;

/** Resnet, attention over all pixels with one head where there is one, resnet. */
function middle(
  g: GraphBuilder,
  x: Images,
  block: string,
  { attends, ...norm }: GroupNormOptions & Pick<VaePlan, "attends">,
): Images {
  const y = resnet(g, x, `${block}.resnets.0`, norm);
  const name = `${block}.attentions.0`;
  const attended = attends ?? g.has(`${name}.group_norm.weight`);
  return resnet(g, attended ? attend(g, y, name, norm) : y, `${block}.resnets.1`, norm);
}

function attend(g: GraphBuilder, x: Images, name: string, norm: GroupNormOptions): Images {
  const width = x.channels;
  const project = (rows: Value, part: keyof typeof attentionParts): Value => {
    const [now, before] = attentionParts[part];
    return linear(g, rows, `${name}.${g.has(`${name}.${before}.weight`) ? before : now}`, [width, width]);
  };
  const rows = toRows(g, groupNorm(g, x, `${name}.group_norm`, norm));
  const parts = [project(rows, "query"), project(rows, "key"), project(rows, "value")] as const;
  const mixed = project(attention(g, parts, { heads: 1, width, batch: imagesOf(g, x) }), "out");
  return { ...x, value: g.node("Add", [fromRows(g, mixed, x).value, x.value]) };
}
