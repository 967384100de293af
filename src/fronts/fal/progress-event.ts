import { type Progress, Stage } from "../../gen/throughline/v1/image_pb.js";
import { toBase64 } from "../../image/image-format.js";

/** Event of a stream before its output: where the generation is, and the preview if the worker sent one. */
export function progressEvent({ stage, step, totalSteps, preview, previewContentType }: Progress): object {
  return {
    progress: { stage: (Stage[stage] ?? "").toLowerCase(), step, total_steps: totalSteps },
    ...(preview.length > 0 && {
      images: [{ url: `data:${previewContentType};base64,${toBase64(preview)}`, content_type: previewContentType }],
    }),
  };
}
