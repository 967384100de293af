import { create, isMessage } from "@bufbuild/protobuf";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code } from "@connectrpc/connect";
import { Delivery, GenerationOptionsSchema } from "../gen/throughline/v1/image_pb.js";
import { type InferRequest, InferRequestSchema, InferStreamRequestSchema } from "../gen/throughline/v1/worker_pb.js";
import type { RequestFallback } from "../mesh/balance/request-fallback.js";

/** Fallback to DATA_URI for workers that reject DELIVERY_INLINE, as version 1 workers do. */
export const inlineFallback: RequestFallback = {
  toOlder(message) {
    if (isMessage(message, InferStreamRequestSchema)) {
      const { request } = message;
      return request === undefined ? message : create(InferStreamRequestSchema, { request: withDataUri(request) });
    }
    return isMessage(message, InferRequestSchema) ? withDataUri(message) : message;
  },
  rejectsCurrent: (error) =>
    error.code === Code.InvalidArgument &&
    error
      .findDetails(ViolationsSchema)
      .flatMap(({ violations }) => violations)
      .some(({ field }) => {
        const [parent, name] = field?.elements.slice(-2).map(({ fieldName }) => fieldName) ?? [];
        return parent === "options" && name === "delivery";
      }),
};

function withDataUri(request: InferRequest): InferRequest {
  const options = { ...(request.options ?? create(GenerationOptionsSchema)), delivery: Delivery.DATA_URI };
  return { ...request, options };
}
