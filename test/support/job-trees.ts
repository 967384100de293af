/* Expected span trees of jobs, as `spanTree` prints them. */

/** A `generate` job: one trace, with exactly the six spans of a call below `process`. */
export const generateJobTree = [
  "send PRODUCER",
  "  process CONSUMER → send",
  "    image-pipeline INTERNAL",
  "      call-inference-worker CLIENT",
  "      inference SERVER",
  "        diffusion INTERNAL",
  "        upload INTERNAL",
  "      preprocess-prompt INTERNAL",
].join("\n");

/** An `infer` job in its caller's trace: exactly the worker's spans, on the caller's span `parent`, or as roots. */
export function inferJobTree(parent?: string): string {
  const root = parent === undefined ? "inference SERVER" : `inference SERVER in ${parent}`;
  return [root, "  diffusion INTERNAL", "  upload INTERNAL"].join("\n");
}

/** An `infer` job's own trace, which links to the caller's span. */
export function besideInferJobTree(callerSpan: string): string {
  return [`send PRODUCER → ${callerSpan}`, "  process CONSUMER → send"].join("\n");
}
