import { text } from "../../support/dump-spans.js";
import { goodAttempt } from "../../support/painted-trace.js";

/** The trace of a picture of 64×64 in two steps with seed 7, painted by the embedded model: "  a red\theart ". */
export const paintedTrace = text`
  image-pipeline SERVER image-pipeline
    call-inference-worker CLIENT image-pipeline
        app.id="local/text-to-image-worker"
        rpc.method="throughline.v1.TextToImageWorkerService/Infer"
        rpc.response.status_code="OK"
        rpc.system.name="grpc"
        ${goodAttempt(1)}
    inference SERVER text-to-image-worker
        model.name="emoji-xl"
        prompt.length=11
      diffusion INTERNAL text-to-image-worker
          diffusion.execution_provider="cpu"
          diffusion.guidance_scale=4
          diffusion.scheduler="euler-discrete"
          diffusion.seed=7
          diffusion.steps=2
          image.height=64
          image.width=64
          event text-encoding
          event denoising
          event vae-decode
      upload INTERNAL text-to-image-worker
          image.content_type="image/png"
          image.file_size=*
    preprocess-prompt INTERNAL image-pipeline
        prompt.length=14
`;

/** The trace of a picture whose width the model does not take: "a". The worker refuses it at the door, and has no span. */
export const refusedTrace = text`
  image-pipeline SERVER image-pipeline
      rpc.response.status_code="INVALID_ARGUMENT"
    call-inference-worker CLIENT image-pipeline ERROR "INVALID_ARGUMENT"
        app.id="local/text-to-image-worker"
        rpc.method="throughline.v1.TextToImageWorkerService/Infer"
        rpc.response.status_code="INVALID_ARGUMENT"
        rpc.system.name="grpc"
        event attempt attempt.number=1 rpc.response.status_code="INVALID_ARGUMENT" server.address="127.0.0.1" server.port=*
        event exception exception.type="ConnectError"
    preprocess-prompt INTERNAL image-pipeline
        prompt.length=1
`;
