import { create } from "@bufbuild/protobuf";
import type { ConnectRouter, Interceptor } from "@connectrpc/connect";
import { createHealth, ServingStatus } from "../connect-health/health.js";
import { reflectionRoutes } from "../connect-health/reflection.js";
import {
  type ExportTraceServiceRequest,
  type ExportTraceServiceResponse,
  ExportTraceServiceResponseSchema,
  TraceService,
} from "../gen/opentelemetry/proto/collector/trace/v1/trace_service_pb.js";
import { StudioService } from "../gen/throughline/studio/v1/studio_pb.js";
import type { NodeHandler } from "../mesh/port/node-handler.js";
import { createValidationInterceptor } from "../mesh/serve/validation.js";
import { createOtlpHttpHandler } from "./otlp-http.js";
import { spansFromOtlp } from "./otlp-spans.js";
import { createSpanStore, type SpanStore } from "./span-store.js";
import { studioRoutes } from "./studio-service.js";
import { dropUnkeptSignals } from "./unkept-signals.js";

export interface CollectorOptions {
  /** Where spans are kept. @default a new store with its default limits */
  readonly store?: SpanStore;
  /** Largest body of an export by HTTP in bytes, before and after decompression. @default 16 MiB */
  readonly maxBodyBytes?: number;
}

/** A local collector of traces: takes OTLP, keeps the spans in memory and shows them. It brings no server of its own. */
export interface Collector {
  /** Registers OTLP's TraceService, which takes exports by gRPC, StudioService, which shows what came, health and reflection. */
  readonly routes: (router: ConnectRouter) => void;
  /** Checks requests by the rules of their contracts; OTLP has none. */
  readonly interceptors: readonly Interceptor[];
  /**
   * Takes exports by HTTP at `POST /v1/traces`, Protobuf or JSON. Metrics and logs, by HTTP and by gRPC, are taken and dropped. Answers 404
   * for other paths.
   */
  readonly httpHandler: NodeHandler;
  readonly store: SpanStore;
}

/** Makes a collector. */
export function createCollector(options: CollectorOptions = {}): Collector {
  const store = options.store ?? createSpanStore();
  const receive = (request: ExportTraceServiceRequest): ExportTraceServiceResponse => {
    const { spans, rejected } = spansFromOtlp(request);
    store.add(spans);
    if (rejected === 0) {
      return create(ExportTraceServiceResponseSchema);
    }
    const partialSuccess = { rejectedSpans: BigInt(rejected), errorMessage: "spans without valid ids" };
    return create(ExportTraceServiceResponseSchema, { partialSuccess });
  };
  const takeTraces = createOtlpHttpHandler({ receive, maxBodyBytes: options.maxBodyBytes ?? 16 * 1024 * 1024 });
  const services = [TraceService, StudioService];
  const health = createHealth({ services: services.map(({ typeName }) => typeName) });
  health.setAll(ServingStatus.SERVING);
  return {
    store,
    routes(router) {
      router.service(TraceService, { export: receive });
      studioRoutes(store)(router);
      health.routes(router);
      reflectionRoutes(services)(router);
    },
    interceptors: [createValidationInterceptor({ services: [StudioService] })],
    httpHandler(request, response) {
      if (!dropUnkeptSignals(request, response)) {
        takeTraces(request, response);
      }
    },
  };
}
