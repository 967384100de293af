/** A denoising step that was done, and when. */
export interface StepMark {
  readonly step: number;
  /** By any clock that only goes forward. */
  readonly atMs: number;
}

/** Steps that the pace is taken from: the last ones, because the first is slower and a busy machine changes its mind. */
const paceSteps = 8;

/**
 * Milliseconds until the picture is there, told from the pace of the last steps; undefined until two marks are there.
 *
 * @param marks of this painting, in order.
 * @param tailMs what comes after the last step: decoding and encoding.
 */
export function timeLeftMs(
  marks: readonly StepMark[],
  totalSteps: number,
  tailMs: number,
  nowMs: number,
): number | undefined {
  const last = marks.at(-1);
  const first = marks.at(-Math.min(marks.length, paceSteps + 1));
  if (last === undefined || first === undefined || last.step <= first.step) {
    return undefined;
  }
  const stepMs = (last.atMs - first.atMs) / (last.step - first.step);
  return Math.max(0, (totalSteps - last.step) * stepMs + tailMs - (nowMs - last.atMs));
}
