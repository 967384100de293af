/** A measured value at a time. */
export interface Sample {
  /** Milliseconds since any moment. */
  readonly at: number;
  readonly value: number;
}

/** Straight line through samples, by least squares. */
export interface LinearFit {
  /** Change of the value in a minute. */
  readonly perMinute: number;
  /** Standard error of `perMinute`. */
  readonly error: number;
  readonly mean: number;
  /** First and last value. */
  readonly first: number;
  readonly last: number;
}

/** @throws RangeError for fewer than three samples. */
export function linearFit(samples: readonly Sample[]): LinearFit {
  const count = samples.length;
  if (count < 3) {
    throw new RangeError(`a line needs three samples or more, and there are ${count}`);
  }
  const meanOf = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / count;
  const minutes = samples.map(({ at }) => at / 60_000);
  const middle = meanOf(minutes);
  const mean = meanOf(samples.map(({ value }) => value));
  let covariance = 0;
  let variance = 0;
  samples.forEach(({ value }, index) => {
    const offset = (minutes[index] ?? 0) - middle;
    covariance += offset * (value - mean);
    variance += offset ** 2;
  });
  const perMinute = covariance / variance;
  const residual = samples.reduce(
    (sum, { value }, index) => sum + (value - mean - perMinute * ((minutes[index] ?? 0) - middle)) ** 2,
    0,
  );
  const error = Math.sqrt(residual / (count - 2) / variance);
  return { perMinute, error, mean, first: samples[0]?.value ?? 0, last: samples.at(-1)?.value ?? 0 };
}

/** The smallest sample of each stretch of time: what comes and goes, such as idle connections, does not tilt the line. */
export function floorOf(samples: readonly Sample[], stretchMs: number): Sample[] {
  const floors = new Map<number, Sample>();
  for (const sample of samples) {
    const stretch = Math.floor(sample.at / stretchMs);
    const known = floors.get(stretch);
    if (known === undefined || sample.value < known.value) {
      floors.set(stretch, sample);
    }
  }
  return [...floors.values()];
}
