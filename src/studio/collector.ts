import { create } from "@bufbuild/protobuf";
import type { ConnectRouter } from "@connectrpc/connect";
import {
  type ExportTraceServiceRequest,
  type ExportTraceServiceResponse,
  ExportTraceServiceResponseSchema,
  TraceService,
} from "../gen/opentelemetry/proto/collector/trace/v1/trace_service_pb.js";
import type { NodeHandler } from "../mesh/port/node-handler.js";
import { createOtlpHttpHandler } from "./otlp-http.js";
import { spansFromOtlp } from "./otlp-spans.js";
import { createSpanStore, type SpanStore } from "./span-store.js";

export interface CollectorOptions {
  /** Where spans are kept. Default: a new store with its default limits. */
  readonly store?: SpanStore;
  /** Largest body of an export by HTTP in bytes, before and after decompression. Default 16 MiB. */
  readonly maxBodyBytes?: number;
}

/** A local collector of traces: takes OTLP and keeps the spans in memory. It brings no server of its own. */
export interface Collector {
  /** Registers OTLP's TraceService, which takes exports by gRPC. */
  readonly routes: (router: ConnectRouter) => void;
  /** Takes exports by HTTP at `POST /v1/traces`, Protobuf or JSON; answers 404 for other paths. */
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
  return {
    store,
    routes: (router) => void router.service(TraceService, { export: receive }),
    httpHandler: createOtlpHttpHandler({ receive, maxBodyBytes: options.maxBodyBytes ?? 16 * 1024 * 1024 }),
  };
}
