import { fromBinary } from "@bufbuild/protobuf";
import { tracing } from "@opentelemetry/sdk-node";
import { ExportTraceServiceRequestSchema } from "../../src/gen/opentelemetry/proto/collector/trace/v1/trace_service_pb.js";

/** Finished spans of these names, as a processor gives them to an exporter. */
export function readableSpans(...names: readonly string[]): tracing.ReadableSpan[] {
  const memory = new tracing.InMemorySpanExporter();
  const provider = new tracing.BasicTracerProvider({ spanProcessors: [new tracing.SimpleSpanProcessor(memory)] });
  for (const name of names) {
    provider.getTracer("test").startSpan(name).end();
  }
  return memory.getFinishedSpans();
}

/** Names of the spans in an encoded request. */
export function spanNames(request: Uint8Array): string[] {
  return fromBinary(ExportTraceServiceRequestSchema, request).resourceSpans.flatMap(({ scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) => spans.map(({ name }) => name)),
  );
}
