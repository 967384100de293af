import type { TestContext } from "node:test";
import { createHealth, ServingStatus } from "../../../src/connect-health/health.js";
import { reflectionRoutes } from "../../../src/connect-health/reflection.js";
import { ServerReflection } from "../../../src/gen/grpc/reflection/v1/reflection_pb.js";
import { ImagePipelineService } from "../../../src/gen/throughline/v1/pipeline_pb.js";
import { TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { type Listening, type ListenOptions, listen } from "../../../src/mesh/port/listen.js";
import { type ConnectHandlerOptions, createConnectHandler } from "../../../src/mesh/serve/connect-handler.js";
import { createValidationInterceptor } from "../../../src/mesh/serve/validation.js";
import { type Behaviour, echoRoutes } from "./echo-services.js";

/** Options of {@link serveEcho}: the handler's and the port's, and what calls do. */
export type ServeEchoOptions = Partial<ConnectHandlerOptions & Omit<ListenOptions, "handler">> & {
  readonly behaviour?: Behaviour;
  /** Whether the contract's rules are checked. @default true */
  readonly validated?: boolean;
};

/** Serves both contract services with validation, health and reflection on a free loopback port, until the test ends. */
export async function serveEcho(t: Pick<TestContext, "after">, options: ServeEchoOptions = {}): Promise<Listening> {
  const services = [ImagePipelineService, TextToImageWorkerService, ServerReflection];
  const health = createHealth({ services: services.map(({ typeName }) => typeName) });
  health.setAll(ServingStatus.SERVING);
  t.after(() => health.close());
  const listening = await listen({
    port: 0,
    ...options,
    handler: createConnectHandler({
      routes(router) {
        echoRoutes(options.behaviour)(router);
        health.routes(router);
        reflectionRoutes([ImagePipelineService, TextToImageWorkerService])(router);
      },
      ...options,
      interceptors: [
        ...(options.interceptors ?? []),
        ...(options.validated === false ? [] : [createValidationInterceptor()]),
      ],
    }),
  });
  t.after(() => listening.stop({ graceMs: 0, cancelMs: 0 }));
  return listening;
}
