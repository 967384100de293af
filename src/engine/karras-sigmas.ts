/** ρ of the paper's equation 5. */
const rho = 7;

/**
 * Noise levels of Karras et al. 2022 (https://arxiv.org/abs/2206.00364, equation 5) from `maximum` down to `minimum`.
 */
export function karrasSigmas(minimum: number, maximum: number, steps: number): Float64Array {
  const [from, to] = [maximum ** (1 / rho), minimum ** (1 / rho)];
  return Float64Array.from({ length: steps }, (_, i) => (from + (i / Math.max(steps - 1, 1)) * (to - from)) ** rho);
}

/**
 * The timestep that a noise level belongs to, by linear interpolation between the logarithms of the training levels:
 * diffusers `_sigma_to_t`.
 *
 * @param trainingSigmas rising levels, one per training step.
 */
export function timestepOfSigma(sigma: number, trainingSigmas: Float32Array): number {
  const logarithms = trainingSigmas.map(Math.log);
  const wanted = Math.log(Math.max(sigma, 1e-10));
  const above = logarithms.findIndex((logarithm) => logarithm > wanted);
  const low = Math.min(Math.max((above === -1 ? logarithms.length : above) - 1, 0), logarithms.length - 2);
  const [lower, upper] = [logarithms[low] ?? 0, logarithms[low + 1] ?? 0];
  const share = Math.min(Math.max((lower - wanted) / (lower - upper), 0), 1);
  return (1 - share) * low + share * (low + 1);
}
