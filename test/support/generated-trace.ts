import type { SpanRecord } from "../../src/trace/span-record.js";
import { dumpSpans, text } from "./dump-spans.js";

/** Spans as text, without what differs between versions of the encoder, and between the ports of two runs. */
export const dumpGenerated = (spans: readonly SpanRecord[]): string =>
  dumpSpans(spans, { mask: ["image.file_size", "server.port"] });

/**
 * The six spans of one request that a fake engine generated with seed 7, whole.
 *
 * @param length code points of the raw prompt.
 * @param cleaned code points of the cleaned one.
 * @param method the worker's rpc.
 * @param wire how the worker was called: attempts are recorded for calls over a port.
 * @param strength of a request with an image.
 */
export const generated = (
  length: number,
  cleaned: number,
  method: "Infer" | "InferStream",
  wire: "memory" | "port",
  strength?: number,
): string => text`
  image-pipeline SERVER image-pipeline
    call-inference-worker CLIENT image-pipeline
        app.id="local/text-to-image-worker"
        rpc.method="throughline.v1.TextToImageWorkerService/${method}"
        rpc.response.status_code="OK"
        rpc.system.name="grpc"
        ${wire === "port" ? goodAttempt(1) : ""}
    inference SERVER text-to-image-worker
        model.name="fake"
        prompt.length=${cleaned}
      diffusion INTERNAL text-to-image-worker
          diffusion.execution_provider="none"
          diffusion.guidance_scale=5
          diffusion.scheduler="euler-discrete"
          diffusion.seed=7
          diffusion.steps=4
          ${strength === undefined ? "" : `diffusion.strength=${strength}`}
          image.height=64
          image.width=64
          event text-encoding
          ${strength === undefined ? "" : "event vae-encode"}
          event denoising
          event vae-decode
      upload INTERNAL text-to-image-worker
          image.content_type="image/png"
          image.file_size=*
    preprocess-prompt INTERNAL image-pipeline
        prompt.length=${length}
`;

/** The event of an attempt that went well. */
export const goodAttempt = (number: number): string =>
  `event attempt attempt.number=${number} rpc.response.status_code="OK" server.address="127.0.0.1" server.port=*`;
