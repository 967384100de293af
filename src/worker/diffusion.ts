import { type Context, type Span, SpanKind, type Tracer } from "@opentelemetry/api";
import type {
  Engine,
  GeneratedImage,
  GenerateOptions,
  GenerationRequest,
  GenerationSettings,
} from "../engine/engine.js";
import { describeLora } from "../engine/lora-choice.js";
import { type DeliveredImage, deliverImage, type ImageDelivery } from "../image/delivery.js";
import { encodeImage, type RgbPixels } from "../image/encode-image.js";
import { contentTypeOf } from "../image/image-format.js";
import { settleFailure, withSpan } from "../trace/span-scope.js";
import type { ImageEncoding } from "./job.js";
import type { WorkerMetrics } from "./worker-metrics.js";

/** Tracers and metrics of a generation. */
export interface GenerationWatch {
  readonly tracer: Tracer;
  readonly stageTracer: Tracer;
  readonly metrics: WorkerMetrics;
}

/**
 * Generate one image in a `diffusion` span, with the settings as attributes, an event per stage, and optional spans per stage.
 *
 * @throws what `Engine.generate` throws.
 */
export function diffusion(
  { engine, tracer, stageTracer, metrics }: GenerationWatch & { readonly engine: Engine },
  parent: Context,
  request: GenerationRequest,
  { signal, onEvent }: GenerateOptions,
): Promise<GeneratedImage> {
  return withSpan(tracer, "diffusion", { parent }, async (span, scope) => {
    let stage: Span | undefined;
    const { executionProvider } = engine.info;
    const measured = metrics.generation(executionProvider);
    try {
      const image = await engine.generate(request, {
        signal,
        onEvent(event) {
          measured.event(event);
          if (event.kind === "settings") {
            span.setAttributes(settingsAttributes(event.settings, executionProvider));
          } else if (event.kind === "stage") {
            span.addEvent(event.stage);
            stage?.end();
            stage = stageTracer.startSpan(event.stage, {}, scope);
          }
          onEvent?.(event);
        },
      });
      measured.image(image);
      return image;
    } catch (error) {
      if (stage !== undefined) {
        settleFailure(stage, SpanKind.INTERNAL, error, signal);
      }
      throw error;
    } finally {
      stage?.end();
      measured.end();
    }
  });
}

function settingsAttributes(settings: GenerationSettings, executionProvider: string) {
  return {
    "diffusion.steps": settings.steps,
    "diffusion.guidance_scale": settings.guidanceScale,
    "diffusion.seed": settings.seed,
    "diffusion.scheduler": settings.scheduler,
    "diffusion.execution_provider": executionProvider,
    ...(settings.strength !== undefined && { "diffusion.strength": settings.strength }),
    ...(settings.clipSkip !== 0 && { "diffusion.clip_skip": settings.clipSkip }),
    ...(settings.guidanceRescale !== 0 && { "diffusion.guidance_rescale": settings.guidanceRescale }),
    "image.width": settings.width,
    "image.height": settings.height,
    ...(settings.loras !== undefined && { "diffusion.loras": settings.loras.map(describeLora) }),
  };
}

/** Encode and deliver an image in an `upload` span. */
export function upload(
  { tracer, stageTracer, metrics }: GenerationWatch,
  parent: Context,
  pixels: RgbPixels,
  { format, quality, texts }: ImageEncoding,
  delivery: ImageDelivery,
): Promise<DeliveredImage> {
  return withSpan(tracer, "upload", { parent }, async (span, scope) => {
    const startedAt = performance.now();
    const image = await withSpan(stageTracer, "image-encode", { parent: scope }, () =>
      encodeImage(pixels, format, { quality, texts }),
    );
    metrics.stageTook("image-encode", performance.now() - startedAt);
    span.setAttributes({ "image.file_size": image.bytes.length, "image.content_type": contentTypeOf(format) });
    return deliverImage(image, delivery);
  });
}
