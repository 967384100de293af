import { createHash, randomInt } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type Attributes,
  type Context,
  context,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from "@opentelemetry/core";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-grpc";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { Delivery, GenerationOptionsSchema } from "../../src/gen/throughline/v1/image_pb.js";
import type { GenerateRequest, GenerateResponseSchema } from "../../src/gen/throughline/v1/pipeline_pb.js";
import type {
  InferRequest,
  InferRequestSchema,
  InferResponse,
  InferResponseSchema,
} from "../../src/gen/throughline/v1/worker_pb.js";
import { installInstantEncoder } from "./instant-encoder.js";

/* Both services written plainly: the contract's spans, a stock exporter, and nothing that the request does not need. */

const encoder = await installInstantEncoder(process.cwd());
const side = 64;

/** Sets up OpenTelemetry as its documentation does; the environment says where spans go. */
export function setUpTracing(serviceName: string): void {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(
    new CompositePropagator({
      propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()],
    }),
  );
  trace.setGlobalTracerProvider(
    new BasicTracerProvider({
      resource: resourceFromAttributes({ "service.name": serviceName }),
      spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
    }),
  );
}

interface SpanOptions {
  readonly attributes?: Attributes;
  readonly parent?: Context;
  readonly kind?: SpanKind;
}

function withSpan<T>(name: string, options: SpanOptions, run: (span: Span) => T | Promise<T>): Promise<T> {
  const { attributes = {}, parent = context.active(), kind = SpanKind.INTERNAL } = options;
  const tracer: Tracer = trace.getTracer("plain");
  return tracer.startActiveSpan(name, { attributes, kind }, parent, async (span) => {
    try {
      return await run(span);
    } catch (error) {
      span.recordException(error instanceof Error ? error : String(error));
      span.setStatus({ code: SpanStatusCode.ERROR });
      throw error;
    } finally {
      span.end();
    }
  });
}

/** Calls the worker, with the deadline and the cancellation of the call that this one is made for. */
export type CallWorker = (request: MessageInitShape<typeof InferRequestSchema>) => Promise<InferResponse>;

/** The pipeline's request. */
export function generate(
  request: GenerateRequest,
  callWorker: CallWorker,
): Promise<MessageInitShape<typeof GenerateResponseSchema>> {
  return withSpan("image-pipeline", { parent: ROOT_CONTEXT, kind: SpanKind.SERVER }, async (root) => {
    const prompt = await withSpan(
      "preprocess-prompt",
      { attributes: { "prompt.length": [...request.prompt].length } },
      () => request.prompt.normalize("NFC").replace(/\s+/g, " ").trim(),
    );
    const seed = request.options?.seed ?? randomInt(2 ** 32);
    const traceContext: Record<string, string> = {};
    propagation.inject(context.active(), traceContext);
    const attributes = {
      "app.id": "local/text-to-image-worker",
      "rpc.system.name": "grpc",
      "rpc.method": "throughline.v1.TextToImageWorkerService/Infer",
    };
    const answer = await withSpan("call-inference-worker", { attributes, kind: SpanKind.CLIENT }, async (span) => {
      const options = { ...(request.options ?? create(GenerationOptionsSchema)), seed, delivery: Delivery.DATA_URI };
      const received = await callWorker({ prompt, traceContext, options });
      span.setAttribute("rpc.response.status_code", "OK");
      return received;
    });
    const { image, timings, model, executionProvider, truncatedTokens } = answer;
    return {
      ...(image && { image }),
      ...(timings && { timings }),
      traceId: root.spanContext().traceId,
      seed: answer.seed,
      model,
      executionProvider,
      truncatedTokens,
    };
  });
}

/** The worker's request. */
export function infer(request: InferRequest): Promise<MessageInitShape<typeof InferResponseSchema>> {
  const parent = propagation.extract(ROOT_CONTEXT, request.traceContext);
  const attributes = { "model.name": "fake", "prompt.length": [...request.prompt].length };
  const seed = request.options?.seed ?? randomInt(2 ** 32);
  return withSpan("inference", { parent, attributes, kind: SpanKind.SERVER }, async () => {
    const startedAt = performance.now();
    const pixels = await withSpan("diffusion", {}, (span) => {
      span.setAttributes({
        "diffusion.steps": request.options?.numInferenceSteps ?? 4,
        "diffusion.guidance_scale": request.options?.guidanceScale ?? 5,
        "diffusion.seed": seed,
        "diffusion.scheduler": "euler-discrete",
        "diffusion.execution_provider": "none",
        "image.width": side,
        "image.height": side,
      });
      span.addEvent("text-encoding");
      span.addEvent("denoising");
      span.addEvent("vae-decode");
      return pattern(request.prompt, seed);
    });
    const image = await withSpan("upload", {}, async (span) => {
      const raw = encoder(pixels, { raw: { width: side, height: side, channels: 3 } });
      const bytes = await raw.png({ compressionLevel: 6 }).toBuffer();
      span.setAttributes({ "image.file_size": bytes.length, "image.content_type": "image/png" });
      return {
        url: `data:image/png;base64,${bytes.toString("base64")}`,
        contentType: "image/png",
        fileName: `${createHash("sha256").update(bytes).digest("hex").slice(0, 32)}.png`,
        fileSize: bytes.length,
        width: side,
        height: side,
      };
    });
    const timings = { totalMs: performance.now() - startedAt };
    return { image, seed, timings, model: "fake", executionProvider: "none" };
  });
}

/** The same work as the fake engine's. */
function pattern(prompt: string, seed: number): Uint8Array {
  let hash = seed >>> 0;
  for (const character of prompt) {
    hash = (Math.imul(hash, 31) + (character.codePointAt(0) ?? 0)) >>> 0;
  }
  const data = new Uint8Array(side * side * 3);
  for (let i = 0; i < data.length; i++) {
    data[i] = (hash >>> ((i % 3) * 8)) ^ Math.floor(i / 3 / side);
  }
  return data;
}
