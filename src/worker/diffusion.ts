import type { Context, Tracer } from "@opentelemetry/api";
import type { Engine, PaintEvent, PaintRequest, PaintSettings } from "../engine/engine.js";
import { iterateWithSpan } from "../trace/span-scope.js";

/** One painting, on a `diffusion` span: what is really painted as attributes, an event per stage. Yields the engine's events. */
export function diffusion(
  tracer: Tracer,
  parent: Context,
  engine: Engine,
  request: PaintRequest,
  signal: AbortSignal,
): AsyncIterable<PaintEvent> {
  return iterateWithSpan(tracer, "diffusion", { parent }, async function* (span) {
    for await (const event of engine.paint(request, signal)) {
      switch (event.kind) {
        case "settings":
          span.setAttributes(settingsAttributes(event.settings, engine.info.executionProvider));
          break;
        case "stage":
          span.addEvent(event.stage);
          break;
        case "step":
        case "image":
          break;
      }
      yield event;
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
