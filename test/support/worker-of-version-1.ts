import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import {
  clone,
  create,
  createFileRegistry,
  type DescFile,
  type DescMessage,
  type DescMethod,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type DescService,
  fromBinary,
  type Message,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import type { Client, Interceptor } from "@connectrpc/connect";
import { Delivery, file_throughline_v1_image } from "../../src/gen/throughline/v1/image_pb.js";
import {
  type InferRequest,
  InferRequestSchema,
  InferResponseSchema,
  InferStreamRequestSchema,
  InferStreamResponseSchema,
  TextToImageWorkerService,
} from "../../src/gen/throughline/v1/worker_pb.js";
import type { Listening } from "../../src/mesh/port/listen.js";
import { createValidationInterceptor } from "../../src/mesh/serve/validation.js";
import { serveEcho } from "../mesh/support/serve-echo.js";

/** The worker's service without `DELIVERY_INLINE` and `Image.data`, with its rules: what a worker of the contract's version 1 serves. */
function serviceOfVersion1(): DescService {
  const files = new Map<string, DescFile>();
  const add = (file: DescFile): void => {
    if (!files.has(file.proto.name)) {
      file.dependencies.forEach(add);
      files.set(file.proto.name, file);
    }
  };
  add(TextToImageWorkerService.file);
  const file = [...files.values()].map(({ proto }) => {
    const copy = clone(FileDescriptorProtoSchema, proto);
    if (proto.name === file_throughline_v1_image.proto.name) {
      for (const message of copy.messageType.filter(({ name }) => name === "Image")) {
        message.field = message.field.filter(({ name }) => name !== "data");
      }
      for (const { value } of copy.enumType.filter(({ name }) => name === "Delivery")) {
        value.splice(
          value.findIndex(({ number }) => number === Delivery.INLINE),
          1,
        );
      }
    }
    return copy;
  });
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file }));
  return registry.getService(TextToImageWorkerService.typeName) ?? assert.fail("the service is missing");
}

const isUnary = (method: DescMethod | undefined): method is DescMethodUnary => method?.methodKind === "unary";
const isServerStreaming = (method: DescMethod | undefined): method is DescMethodServerStreaming =>
  method?.methodKind === "server_streaming";

/**
 * Serves a worker of the contract's version 1 on a free loopback port, until the test ends: it checks its rules, and passes on to a worker of
 * today.
 *
 * @param asked called with the delivery of each call, rejected ones too.
 */
export function serveWorkerOfVersion1(
  t: Pick<TestContext, "after">,
  worker: Client<typeof TextToImageWorkerService>,
  asked: (delivery: Delivery | undefined) => void,
): Promise<Listening> {
  const service = serviceOfVersion1();
  const { infer, inferStream } = service.method;
  assert.ok(isUnary(infer) && isServerStreaming(inferStream));
  const recode = <From extends DescMessage, To extends DescMessage>(
    from: From,
    message: MessageShape<From>,
    to: To,
  ): MessageShape<To> => fromBinary(to, toBinary(from, message));
  const record: Interceptor = (next) => async (request) => {
    const note = (message: Message) => {
      const { options }: InferRequest = request.stream
        ? (recode(inferStream.input, message, InferStreamRequestSchema).request ?? assert.fail())
        : recode(infer.input, message, InferRequestSchema);
      asked(options?.delivery);
    };
    if (!request.stream) {
      note(request.message);
      return next(request);
    }
    const messages = request.message;
    const noted = async function* () {
      for await (const message of messages) {
        note(message);
        yield message;
      }
    };
    return next({ ...request, message: noted() });
  };
  return serveEcho(t, {
    routes(router) {
      router.rpc(infer, async (message: Message, { signal }) => {
        const response = await worker.infer(recode(infer.input, message, InferRequestSchema), { signal });
        return recode(InferResponseSchema, response, infer.output);
      });
      router.rpc(inferStream, async function* (message: Message, { signal }) {
        const request = recode(inferStream.input, message, InferStreamRequestSchema);
        for await (const response of worker.inferStream(request, { signal })) {
          yield recode(InferStreamResponseSchema, response, inferStream.output);
        }
      });
    },
    interceptors: [record, createValidationInterceptor({ services: [service] })],
    validated: false,
  });
}
