import type { GraphBuilder, Value, WeightView } from "./graph-builder.js";

/*
 * Layers of torch.nn and diffusers as nodes. Tokens are rows of a matrix, [images · tokens, width]; images are
 * [images, channels, height, width]. Each layer checks the shapes of its weights against what it is given.
 */

/** A value of images, and how many channels it has. */
export interface Images {
  readonly value: Value;
  readonly channels: number;
  /** A value of as many images of the same height and width, which stands for all of them. @default the value itself */
  readonly like?: Value;
}

/** y = x · Wᵀ + b on rows. The weight is multiplied as it is stored. @param widths of x and of y. */
export function linear(
  g: GraphBuilder,
  x: Value,
  name: string,
  [from, to]: readonly [from: number, to: number],
  { rows }: Pick<WeightView, "rows"> = {},
): Value {
  const { transposed = false, shape } = g.location(`${name}.weight`);
  // A convolution of 1 × 1 is the linear layer of the same numbers: some checkpoints store it so.
  const extra = shape.slice(2).every((side) => side === 1) ? shape.slice(2) : [];
  const count = rows?.[1] ?? to;
  const weight = g.weight(`${name}.weight`, [...(transposed ? [from, to] : [to, from]), ...extra], {
    ...(rows && { rows }),
    ...(extra.length > 0 && { dimensions: [count, from] }),
  });
  const bias = g.has(`${name}.bias`) ? [g.weight(`${name}.bias`, [to], rows ? { rows } : {})] : [];
  return g.node("Gemm", [x, weight, ...bias], { transB: transposed ? 0 : 1 });
}

/** A convolution of a square kernel. @param pads top, left, bottom, right. @default half the kernel around */
export function convolution(
  g: GraphBuilder,
  x: Images,
  name: string,
  { stride = 1, pads }: { readonly stride?: number; readonly pads?: readonly number[] } = {},
): Images {
  const [channels = 0, , side = 1] = g.shape(`${name}.weight`);
  const half = side >> 1;
  const value = g.node(
    "Conv",
    [x.value, g.weight(`${name}.weight`, [channels, x.channels, side, side]), g.weight(`${name}.bias`, [channels])],
    { kernel_shape: [side, side], strides: [stride, stride], pads: pads ?? [half, half, half, half] },
  );
  const sameSize = stride === 1 && pads === undefined;
  return sameSize ? { value, channels, like: likeOf(x) } : { value, channels };
}

/** x · sigmoid(x). */
export function silu(g: GraphBuilder, x: Value): Value {
  return quickGelu(g, x, 1);
}

/** x · Φ(x), by the error function. */
export function gelu(g: GraphBuilder, x: Value): Value {
  return g.operators.gelu === "fused" ? g.fused("Gelu", [x]) : g.node("Gelu", [x]);
}

/** x · sigmoid(α · x). */
export function quickGelu(g: GraphBuilder, x: Value, alpha: number): Value {
  if (g.operators.quickGelu === "fused") {
    return g.fused("QuickGelu", [x], { alpha: { float: alpha } });
  }
  const scaled = alpha === 1 ? x : g.node("Mul", [x, g.floats([alpha], [1])]);
  return g.node("Mul", [x, g.node("Sigmoid", [scaled])]);
}

export function layerNorm(g: GraphBuilder, x: Value, name: string, width: number, eps = 1e-5): Value {
  const parts = [g.weight(`${name}.weight`, [width]), g.weight(`${name}.bias`, [width])];
  return g.node("LayerNormalization", [x, ...parts], { axis: -1, epsilon: { float: eps } });
}

export interface GroupNormOptions {
  readonly groups: number;
  readonly eps: number;
}

/** Through InstanceNormalization, which has a fast kernel on the CPU, unlike GroupNormalization. */
export function groupNorm(g: GraphBuilder, images: Images, name: string, options: GroupNormOptions): Images {
  const { value, channels } = images;
  const { groups, eps } = options;
  const fill = (number: number): Value => g.floats(new Float32Array(groups).fill(number), [groups]);
  const each = (part: string): Value => g.weight(`${name}.${part}`, [channels], { dimensions: [channels, 1, 1] });
  const grouped = g.node("Reshape", [value, g.ints(0, groups, -1)]);
  const normal = g.node("InstanceNormalization", [grouped, fill(1), fill(0)], { epsilon: { float: eps } });
  const back = g.node("Reshape", [normal, shapeOf(g, images)]);
  return { ...images, value: g.node("Add", [g.node("Mul", [back, each("weight")]), each("bias")]) };
}

export interface AttentionOptions {
  readonly heads: number;
  /** Channels of all heads together. */
  readonly width: number;
  /** How many images the rows are of, as a shape of one number. */
  readonly batch: Value;
  /** Each token sees those before it alone, of so many. @default all tokens see each other */
  readonly causalTokens?: number;
}

/** softmax(q · kᵀ / √d) · v on rows. */
export function attention(
  g: GraphBuilder,
  queryKeyValue: readonly [Value, Value, Value],
  { heads, width, batch, causalTokens }: AttentionOptions,
): Value {
  const scale = 1 / Math.sqrt(width / heads);
  if (g.operators[causalTokens === undefined ? "attention" : "causalAttention"] === "plain") {
    return plainAttention(g, queryKeyValue, { heads, width, batch, scale, causalTokens });
  }
  const shape = g.once(`shape ${batch} ${width}`, () => g.node("Concat", [batch, g.ints(-1, width)], { axis: 0 }));
  const mixed = g.fused(
    "MultiHeadAttention",
    queryKeyValue.map((rows) => g.node("Reshape", [rows, shape])),
    { num_heads: heads, scale: { float: scale }, ...(causalTokens !== undefined && { unidirectional: 1 }) },
  );
  return g.node("Reshape", [mixed, g.ints(-1, width)]);
}

interface PlainAttentionOptions {
  readonly heads: number;
  readonly width: number;
  readonly batch: Value;
  readonly scale: number;
  readonly causalTokens: number | undefined;
}

function plainAttention(
  g: GraphBuilder,
  [query, key, value]: readonly [Value, Value, Value],
  { heads, width, batch, scale, causalTokens }: PlainAttentionOptions,
): Value {
  const shape = g.once(`shape ${batch} ${width} ${heads}`, () =>
    g.node("Concat", [batch, g.ints(-1, heads, width / heads)], { axis: 0 }),
  );
  const split = (rows: Value, perm: readonly number[]): Value =>
    g.node("Transpose", [g.node("Reshape", [rows, shape])], { perm });
  // The query is scaled before the product: in half precision, the product alone can overflow.
  const scaled = g.node("Mul", [query, g.floats([scale], [1])]);
  const scores = g.node("MatMul", [split(scaled, [0, 2, 1, 3]), split(key, [0, 2, 3, 1])]);
  const seen = causalTokens === undefined ? scores : g.node("Add", [scores, causalMask(g, causalTokens)]);
  const mixed = g.node("MatMul", [g.node("Softmax", [seen], { axis: -1 }), split(value, [0, 2, 1, 3])]);
  const rows = g.node("Transpose", [mixed], { perm: [0, 2, 1, 3] });
  return g.node("Reshape", [rows, g.ints(-1, width)]);
}

/** Half precision has it too, and the exponential of it is 0. */
const unseen = -10_000;

/** Added to the scores of a token with each other: 0 for itself and those before it. */
function causalMask(g: GraphBuilder, tokens: number): Value {
  const mask = Float32Array.from({ length: tokens * tokens }, (_, i) =>
    i % tokens > Math.floor(i / tokens) ? unseen : 0,
  );
  return g.floats(mask, [tokens, tokens]);
}

/** Length of the first axis, as a shape of one number. */
export function batchOf(g: GraphBuilder, x: Value): Value {
  return g.once(`batch of ${x}`, () => g.node("Shape", [x], { start: 0, end: 1 }));
}

/** How many images there are, as a shape of one number. */
export function imagesOf(g: GraphBuilder, images: Images): Value {
  return batchOf(g, likeOf(images));
}

function likeOf({ value, like = value }: Images): Value {
  return like;
}

/**
 * Shape of images, for a Reshape of something with as many images. Height and width are read once for all images of the same size: providers
 * that keep images in another order than ONNX's do that on the CPU.
 */
function shapeOf(g: GraphBuilder, { channels, ...images }: Images): Value {
  const like = likeOf({ channels, ...images });
  const sides = g.once(`sides of ${like}`, () => g.node("Shape", [like], { start: 2 }));
  return g.once(`shape of ${like} ${channels}`, () => g.node("Concat", [g.ints(0, channels), sides], { axis: 0 }));
}

/** A row for each pixel. */
export function toRows(g: GraphBuilder, { value, channels }: Images): Value {
  const flat = g.node("Reshape", [value, g.ints(0, channels, -1)]);
  return g.node("Reshape", [g.node("Transpose", [flat], { perm: [0, 2, 1] }), g.ints(-1, channels)]);
}

/** And back, to the shape of `like`. */
export function fromRows(g: GraphBuilder, rows: Value, like: Images): Images {
  const { channels } = like;
  const batch = imagesOf(g, like);
  const shape = g.once(`shape ${batch} ${channels}`, () =>
    g.node("Concat", [batch, g.ints(-1, channels)], { axis: 0 }),
  );
  const flat = g.node("Transpose", [g.node("Reshape", [rows, shape])], { perm: [0, 2, 1] });
  return { ...like, value: g.node("Reshape", [flat, shapeOf(g, like)]) };
}

export interface TimeEmbedding {
  /** After its SiLU. */
  readonly value: Value;
  readonly width: number;
}

/** diffusers' `ResnetBlock2D`: norm, SiLU, convolution, twice, beside a way around them. */
export function resnet(
  g: GraphBuilder,
  x: Images,
  name: string,
  { time, ...norm }: GroupNormOptions & { readonly time?: TimeEmbedding },
): Images {
  const active = (images: Images, part: string): Images => ({
    ...images,
    value: silu(g, groupNorm(g, images, `${name}.${part}`, norm).value),
  });
  let y = convolution(g, active(x, "norm1"), `${name}.conv1`);
  if (time !== undefined) {
    const shift = linear(g, time.value, `${name}.time_emb_proj`, [time.width, y.channels]);
    y = { ...y, value: g.node("Add", [y.value, g.node("Unsqueeze", [shift, g.ints(2, 3)])]) };
  }
  y = convolution(g, active(y, "norm2"), `${name}.conv2`);
  // Where the channels change, the way around needs its convolution, and its name shows its absence.
  const shortcut = g.has(`${name}.conv_shortcut.weight`) || x.channels !== y.channels;
  const around = shortcut ? convolution(g, x, `${name}.conv_shortcut`) : x;
  return { ...y, value: g.node("Add", [around.value, y.value]) };
}

/** Twice the height and width, each value four times, then a convolution. */
export function upsample(g: GraphBuilder, { value, channels }: Images, name: string): Images {
  const nearest = { mode: "nearest", coordinate_transformation_mode: "asymmetric", nearest_mode: "floor" };
  const large = g.node("Resize", [value, "", g.floats([1, 1, 2, 2], [4], "float32")], nearest);
  return convolution(g, { value: large, channels }, `${name}.conv`);
}

/** How many of `name(0)`, `name(1)` … there are, one after the other. */
export function countOf(g: GraphBuilder, name: (index: number) => string): number {
  let count = 0;
  while (g.has(name(count))) {
    count++;
  }
  return count;
}
