import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";

/** Flags by the contract's fields. A message of the service names the field. */
const flags: ReadonlyMap<string, string> = new Map([
  ["webhook_url", "--webhook"],
  ["request_id", "--request-id"],
  ["worker_app", "--worker-app"],
  ["options.negative_prompt", "--negative"],
  ["options.width", "--width"],
  ["options.height", "--height"],
  ["options.num_inference_steps", "--steps"],
  ["options.guidance_scale", "--guidance"],
  ["options.seed", "--seed"],
  ["options.scheduler", "--scheduler"],
  ["options.format", "--format"],
  ["options.quality", "--quality"],
  ["options.preview_interval", "--preview-interval"],
  ["options.delivery", "--delivery"],
  ["options.init_image", "--init-image"],
  ["options.strength", "--strength"],
  ["options.loras", "--lora"],
  ["options.clip_skip", "--clip-skip"],
  ["options.guidance_rescale", "--guidance-rescale"],
]);

/** Flags whose values a service has rejected with INVALID_ARGUMENT, each once; empty for any other error. */
export function rejectedFlags(error: unknown): readonly string[] {
  if (!(error instanceof ConnectError) || error.code !== Code.InvalidArgument) {
    return [];
  }
  const found = error
    .findDetails(ViolationsSchema)
    .flatMap(({ violations }) => violations)
    .flatMap(({ field }) => {
      const names = (field?.elements ?? [])
        .map(({ fieldName }) => fieldName)
        .filter((name) => name !== "request" && name !== "generate");
      return flags.get(names.slice(0, 2).join(".")) ?? [];
    });
  return [...new Set(found)];
}
