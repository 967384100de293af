import { type Context, type Span, SpanKind, type Tracer } from "@opentelemetry/api";
import type { Engine, PaintEvent, PaintRequest, PaintSettings } from "../engine/engine.js";
import { settleFailure } from "../trace/settle-span.js";
import { iterateWithSpan } from "../trace/span-scope.js";
import type { WorkerMetrics } from "./worker-metrics.js";

/** Who makes the spans of a painting, and those of its stages, and who measures them. */
export interface PaintingWatch {
  readonly tracer: Tracer;
  readonly stageTracer: Tracer;
  readonly metrics: WorkerMetrics;
}

/**
 * One painting, on a `diffusion` span: what is really painted as attributes, an event per stage, and a span per stage where they are
 * wanted. Yields the engine's events.
 */
export function diffusion(
  { engine, tracer, stageTracer, metrics }: PaintingWatch & { readonly engine: Engine },
  parent: Context,
  request: PaintRequest,
  signal: AbortSignal,
): AsyncIterable<PaintEvent> {
  return iterateWithSpan(tracer, "diffusion", { parent }, async function* (span, scope) {
    let stage: Span | undefined;
    const { executionProvider } = engine.info;
    const measured = metrics.painting(executionProvider);
    try {
      for await (const event of engine.paint(request, signal)) {
        measured.event(event);
        switch (event.kind) {
          case "settings":
            span.setAttributes(settingsAttributes(event.settings, executionProvider));
            break;
          case "stage":
            span.addEvent(event.stage);
            stage?.end();
            stage = stageTracer.startSpan(event.stage, {}, scope);
            break;
          case "step":
          case "image":
            break;
        }
        yield event;
      }
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

function settingsAttributes(settings: PaintSettings, executionProvider: string) {
  return {
    "diffusion.steps": settings.steps,
    "diffusion.guidance_scale": settings.guidanceScale,
    "diffusion.seed": settings.seed,
    "diffusion.scheduler": settings.scheduler,
    "diffusion.execution_provider": executionProvider,
    "image.width": settings.width,
    "image.height": settings.height,
  };
}
