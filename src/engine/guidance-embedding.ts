const round = Math.fround;

/** Ratio of the longest period to the shortest. */
const longestPeriod = round(Math.log(10000));

/**
 * The guidance scale as a UNet takes it that was distilled to guide itself (its `timestep_cond`): sines and cosines of
 * 1000 · (scale − 1) at falling frequencies, in the way of https://arxiv.org/abs/2210.03142 that latent consistency models take
 * (https://arxiv.org/abs/2310.04378). Rounded to float32 in the order of diffusers' `get_guidance_scale_embedding`.
 *
 * @param width length of the embedding; the last place of an odd one is 0.
 */
export function guidanceEmbedding(scale: number, width: number): Float32Array {
  const half = Math.floor(width / 2);
  const weight = round(round(scale - 1) * 1000);
  const exponent = round(longestPeriod / (half - 1));
  const embedding = new Float32Array(width);
  for (let i = 0; i < half; i++) {
    const angle = round(weight * round(Math.exp(-round(i * exponent))));
    embedding[i] = Math.sin(angle);
    embedding[half + i] = Math.cos(angle);
  }
  return embedding;
}
