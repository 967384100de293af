/**
 * A plain pipeline or worker on connect-node or on grpc-js, with protovalidate:
 *
 *     node plain-services.mjs connect-node|grpc-js worker
 *     node plain-services.mjs connect-node|grpc-js pipeline WORKER-URL
 */
import { once } from "node:events";
import { createServer } from "node:http2";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import { createClient } from "@connectrpc/connect";
import { connectNodeAdapter, createGrpcTransport } from "@connectrpc/connect-node";
import { createValidateInterceptor } from "@connectrpc/validate";
import grpc from "@grpc/grpc-js";
import { ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { InferRequestSchema, TextToImageWorkerService } from "../../src/gen/throughline/v1/worker_pb.js";
import { generate, infer, setUpTracing } from "./plain.js";

const [stack, role = "", workerUrl] = process.argv.slice(2);

async function serveConnect(): Promise<number> {
  const worker =
    workerUrl === undefined
      ? undefined
      : createClient(TextToImageWorkerService, createGrpcTransport({ baseUrl: workerUrl }));
  const server = createServer(
    connectNodeAdapter({
      interceptors: [createValidateInterceptor()],
      routes(router) {
        if (worker === undefined) {
          router.service(TextToImageWorkerService, { infer });
          return;
        }
        router.service(ImagePipelineService, {
          generate: (request, { signal, timeoutMs }) => {
            const remainingMs = timeoutMs();
            const options = { signal, ...(remainingMs !== undefined && { timeoutMs: remainingMs }) };
            return generate(request, (inferRequest) => worker.infer(inferRequest, options));
          },
        });
      },
    }),
  ).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** What grpc-js has to know of an rpc. */
function definitionOf<I extends DescMessage, O extends DescMessage>(method: DescMethodUnary<I, O>) {
  const bytesOf =
    <Desc extends DescMessage>(desc: Desc) =>
    (message: MessageShape<Desc>) =>
      Buffer.from(toBinary(desc, message));
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: false,
    responseStream: false,
    requestSerialize: bytesOf(method.input),
    requestDeserialize: (bytes: Buffer) => fromBinary(method.input, bytes),
    responseSerialize: bytesOf(method.output),
    responseDeserialize: (bytes: Buffer) => fromBinary(method.output, bytes),
  } as const;
}

type GrpcCall<I extends DescMessage, O extends DescMessage> = grpc.ServerUnaryCall<MessageShape<I>, MessageShape<O>>;

function addRpc<I extends DescMessage, O extends DescMessage>(
  server: grpc.Server,
  method: DescMethodUnary<I, O>,
  answer: (request: MessageShape<I>, call: GrpcCall<I, O>) => Promise<MessageInitShape<O>>,
): void {
  const validator = createValidator();
  const handler: grpc.handleUnaryCall<MessageShape<I>, MessageShape<O>> = (call, callback) => {
    const { kind, error } = validator.validate(method.input, call.request);
    if (kind !== "valid") {
      callback({ code: grpc.status.INVALID_ARGUMENT, details: String(error) });
      return;
    }
    answer(call.request, call).then(
      (response) => callback(null, create(method.output, response)),
      (failure: unknown) => callback(failure instanceof Error ? failure : new Error(String(failure))),
    );
  };
  server.addService({ rpc: definitionOf(method) }, { rpc: handler });
}

function serveGrpc(): Promise<number> {
  const server = new grpc.Server();
  if (workerUrl === undefined) {
    addRpc(server, TextToImageWorkerService.method.infer, infer);
  } else {
    const { path, requestSerialize, responseDeserialize } = definitionOf(TextToImageWorkerService.method.infer);
    const client = new grpc.Client(new URL(workerUrl).host, grpc.credentials.createInsecure());
    addRpc(server, ImagePipelineService.method.generate, (request, parent) =>
      generate(
        request,
        (inferRequest) =>
          new Promise((resolve, reject) => {
            const message = create(InferRequestSchema, inferRequest);
            // The deadline and the cancellation come with the parent.
            const options = { parent };
            client.makeUnaryRequest(
              path,
              requestSerialize,
              responseDeserialize,
              message,
              options,
              (error, response) => {
                if (error !== null || response === undefined) {
                  reject(error ?? new Error("no response"));
                } else {
                  resolve(response);
                }
              },
            );
          }),
      ),
    );
  }
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) =>
      error === null ? resolve(port) : reject(error),
    );
  });
}

setUpTracing(role === "pipeline" ? "image-pipeline" : "text-to-image-worker");
const port = await (stack === "grpc-js" ? serveGrpc() : serveConnect());
process.stdout.write(`${role} is ready at http://127.0.0.1:${port}\n`);
