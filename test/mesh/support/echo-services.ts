import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { Stage } from "../../../src/gen/throughline/v1/image_pb.js";
import { type GenerateRequest, ImagePipelineService } from "../../../src/gen/throughline/v1/pipeline_pb.js";
import { type InferRequest, TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";

/** What a test wants a call to do: return normally, throw, or wait. Runs before the answer, with the call's context. */
export type Behaviour = (prompt: string, context: HandlerContext) => Promise<void> | void;

/** Both services of the contract, small and real: they answer with what they were sent, in the contract's order of events. */
export function echoRoutes(behaviour: Behaviour = () => {}): (router: ConnectRouter) => void {
  const options = ({ prompt, options }: GenerateRequest | InferRequest) => ({
    image: { url: `echo:${[...prompt].length}`, width: options?.width ?? 0, height: options?.height ?? 0 },
    seed: options?.seed ?? 0,
    model: "echo",
  });
  return (router) => {
    router.service(ImagePipelineService, {
      async generate(request, context) {
        await behaviour(request.prompt, context);
        return options(request);
      },
      async *generateStream({ request }, context) {
        yield { event: { case: "queued", value: { position: 0 } } };
        yield { event: { case: "progress", value: { stage: Stage.DENOISING, step: 1, totalSteps: 2 } } };
        await behaviour(request?.prompt ?? "", context);
        if (request !== undefined) {
          yield { event: { case: "result", value: options(request) } };
        }
      },
    });
    router.service(TextToImageWorkerService, {
      async infer(request, context) {
        await behaviour(request.prompt, context);
        return { ...options(request), model: Object.keys(request.traceContext).sort().join(",") };
      },
      async *inferStream({ request }, context) {
        yield { event: { case: "queued", value: { position: 0 } } };
        yield { event: { case: "progress", value: { stage: Stage.DENOISING, step: 1, totalSteps: 2 } } };
        await behaviour(request?.prompt ?? "", context);
        if (request !== undefined) {
          yield { event: { case: "result", value: options(request) } };
        }
      },
    });
  };
}
