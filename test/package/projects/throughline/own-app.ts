import { type AppHost, createApp, onwardCall, serverScope, traceIdOf, withSpan } from "throughline/app";
import { createHealth } from "throughline/connect-health";
import { ImagePipelineService } from "throughline/contracts";
import { createClientInterceptor, createServerInterceptor } from "throughline/otelconnect";
import { runApp } from "throughline/run";
import { createTestMesh } from "throughline/testing";

/** Passes requests on to the pipeline, inside a span of its own. */
function createFrontApp({ apps, telemetry, logger }: AppHost) {
  return createApp({
    name: "front",
    services: [ImagePipelineService],
    interceptors: [createServerInterceptor({ filter: () => false })],
    routes(router) {
      router.service(ImagePipelineService, {
        generate: (request, call) =>
          withSpan(telemetry.tracer, "pass-on", { parent: call.values.get(serverScope) }, () =>
            apps.client("local/image-pipeline", ImagePipelineService).generate(request, onwardCall(call)),
          ),
      });
    },
    telemetry,
    logger,
  });
}

/** The names of the spans of one image that the own app had generated, and whether they are of the trace that the answer names. */
export async function traceOfOwnApp() {
  const mesh = await createTestMesh({ apps: { "local/front": createFrontApp }, trustTraceparent: true });
  const { traceId } = await mesh.app("local/front", ImagePipelineService).generate({ prompt: "a red heart" });
  const spans = await mesh.waitForTrace(traceId, 9);
  await mesh.stop();
  return spans.map(({ name }) => name).sort();
}

/** What is offered and not called here. */
export const offered = [createClientInterceptor, createHealth, runApp, traceIdOf];
