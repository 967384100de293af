import type { SpanRecord } from "../../src/trace/span-record.js";
import { dumpSpans, text } from "./dump-spans.js";

/** Spans as text, without what differs between versions of the encoder. */
export const dumpPainted = (spans: readonly SpanRecord[]): string => dumpSpans(spans, { mask: ["image.file_size"] });

/**
 * The six spans of one request that a fake engine painted with seed 7, whole.
 *
 * @param length code points of the raw prompt.
 * @param cleaned code points of the cleaned one.
 * @param method the worker's rpc.
 */
export const painted = (length: number, cleaned: number, method: "Infer" | "InferStream"): string => text`
  image-pipeline SERVER image-pipeline
    call-inference-worker CLIENT image-pipeline
        app.id="local/text-to-image-worker"
        rpc.method="throughline.v1.TextToImageWorkerService/${method}"
        rpc.response.status_code="OK"
        rpc.system.name="grpc"
    inference SERVER text-to-image-worker
        model.name="fake"
        prompt.length=${cleaned}
      diffusion INTERNAL text-to-image-worker
          diffusion.execution_provider="none"
          diffusion.guidance_scale=5
          diffusion.scheduler="euler-discrete"
          diffusion.seed=7
          diffusion.steps=4
          image.height=64
          image.width=64
          event text-encoding
          event denoising
          event vae-decode
      upload INTERNAL text-to-image-worker
          image.content_type="image/png"
          image.file_size=*
    preprocess-prompt INTERNAL image-pipeline
        prompt.length=${length}
`;
