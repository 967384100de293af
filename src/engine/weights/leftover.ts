import { WeightError, type WeightSource } from "./tensor-location.js";

/** Tensors that older versions of the tools saved beside the weights, and that no graph needs. */
const idle = /(?:^|\.)(?:position_ids|logit_scale|num_batches_tracked)$/;

/**
 * Finds tensors that no graph reads: they belong to a part that the engine does not build, so that the images would not be the model's.
 *
 * @param used names of the tensors that graphs read. @param allowed names that may be left over.
 * @throws WeightError that names the first one and how many there are.
 */
export function checkNothingLeft(source: WeightSource, used: ReadonlySet<string>, allowed: RegExp = /^$/): void {
  const left = source.tensors
    .map(({ name }) => name)
    .filter((name) => !used.has(name) && !idle.test(name) && !allowed.test(name));
  const [first] = left;
  if (first !== undefined) {
    const more = left.length > 1 ? ` and ${left.length - 1} more` : "";
    throw new WeightError(source.label, "the tensors of this model and no others", `${first}${more}`);
  }
}
