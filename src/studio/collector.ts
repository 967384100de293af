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
import type { NodeHandler, NodeRequest, NodeResponse } from "../mesh/port/node-handler.js";
import { createValidationInterceptor } from "../mesh/serve/validation.js";
import { createOtlpHttpHandler } from "./otlp-http.js";
import { spansFromOtlp } from "./otlp-spans.js";
import { createSpanStore, type SpanStore } from "./span-store.js";
import { studioRoutes } from "./studio-service.js";

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

const httpPath = /^\/v1\/(?:metrics|logs)$/;
const grpcPath = /^\/opentelemetry\.proto\.collector\.(?:metrics\.v1\.Metrics|logs\.v1\.Logs)Service\/Export$/;

/** An empty, uncompressed message: an export response that accepts everything. */
const emptyGrpcMessage = Buffer.alloc(5);

/**
 * Accepts and drops exports of metrics and logs over gRPC and HTTP, so that services with one endpoint for all signals log no errors. Returns
 * whether the request was such an export.
 */
export function dropUnkeptSignals(request: NodeRequest, response: NodeResponse): boolean {
  const path = request.url?.split("?", 1)[0] ?? "";
  const isGrpc = grpcPath.test(path);
  if (request.method !== "POST" || (!isGrpc && !httpPath.test(path))) {
    return false;
  }
  request.on("end", () => (isGrpc ? answerGrpc(response) : answerHttp(request, response)));
  request.resume();
  return true;
}

function answerGrpc(response: NodeResponse): void {
  response.setHeader("content-type", "application/grpc+proto");
  response.addTrailers({ "grpc-status": "0" });
  response.end(emptyGrpcMessage);
}

function answerHttp(request: NodeRequest, response: NodeResponse): void {
  const isJson = request.headers["content-type"]?.startsWith("application/json") ?? false;
  response.setHeader("content-type", isJson ? "application/json" : "application/x-protobuf");
  response.end(isJson ? "{}" : "");
}
