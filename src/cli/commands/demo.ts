import { Delivery } from "../../gen/throughline/v1/image_pb.js";
import { traceToJson } from "../../studio/trace-tree.js";
import type { CommandContext } from "../command.js";
import { CliError, exitCodes } from "../errors.js";
import { imageTargetOf, toStdout } from "../image/image-target.js";
import { readInitImage } from "../image/init-image.js";
import { describeImage, saveImage, savePreviewsOf } from "../image/save-image.js";
import type { demoOptions } from "../options/command-options.js";
import type { OptionValues } from "../options/option.js";
import { startLocalSystem } from "../services/local-system.js";
import { loraFlags } from "../services/loras.js";
import { findModel, showDownload } from "../services/model.js";
import { renderImage } from "../terminal/inline-image.js";
import { createProgress } from "../terminal/progress.js";
import { isInteractive, jsonLine, renderTrace } from "../terminal/terminal.js";
import { requestImage } from "./request-image.js";
import { connectStudio, fetchTrace, missingSpans } from "./studio-client.js";

/** The services have exported all that they had; more would only come of a collector that is slow to take it. */
const traceIdleMs = 1000;
const traceWaitMs = 5000;

/**
 * Generates one image with a collector, a worker and a pipeline of its own, each in a process of its own on a free port, and shows the
 * trace. Exit code 0 means that there is an image and that every span of the contract arrived.
 */
export async function runDemo(
  settings: OptionValues<typeof demoOptions>,
  context: CommandContext,
  prompt: string,
): Promise<number> {
  const { model, loras, loraFolder, device, precision, threads, quiet, json } = settings;
  const { environment, stdout, stderr, interrupt } = context;
  const { path, format } = imageTargetOf(settings, prompt, stdout);
  const initImage = await readInitImage(settings);
  const progress = createProgress(context, quiet || json);
  const ports = { collector: 0, worker: 0, pipeline: 0 };
  try {
    // Fetched here, where a person sees how far it is; the worker then finds it in the cache.
    await findModel(model, context, showDownload(progress, isInteractive(stderr, environment)));
    progress.phase("starting the services");
    const system = await startLocalSystem({
      ports,
      model,
      loras: loraFlags({ loras, loraFolder }),
      device,
      precision,
      threads,
      images: undefined,
      jobs: undefined,
      fal: false,
      tls: undefined,
      apps: undefined,
      logLevel: "error",
      environment,
      onLog: (line) => progress.above(() => stderr.write(`${line}\n`)),
      interrupt,
    });
    try {
      const response = await requestImage(
        { ...settings, initImage, prompt, format, workerApp: undefined, delivery: Delivery.DATA_URI },
        {
          server: system.pipeline.url,
          timeoutMs: undefined,
          interrupt,
          progress,
          onPreview: savePreviewsOf(path),
        },
      );
      const { image, bytes } = await saveImage(path, response, {
        ...context,
        server: system.pipeline.url,
        timeoutMs: undefined,
      });
      const { traceId, seed } = response;

      progress.phase("collecting the trace");
      // Services export their last spans when they end, so that nothing has to be waited for.
      await system.stopServices();
      const spans = await fetchTrace({
        ...connectStudio(system.collector.url),
        traceId,
        idleMs: traceIdleMs,
        waitMs: traceWaitMs,
        interrupt,
      });
      progress.end();
      // The trace would follow the image's bytes.
      const text = path === toStdout ? stderr : stdout;
      text.write(
        json
          ? jsonLine({ traceId, seed, image, ...traceToJson(spans) })
          : `${renderImage({ ...image, bytes }, settings, context)}${describeImage(image, response)}\n\n` +
              `trace ${traceId}\n${renderTrace(spans, context)}`,
      );
      const missing = missingSpans(spans);
      if (missing.length > 0) {
        throw new CliError(`the image was made, but these spans did not arrive: ${missing.join(", ")}`);
      }
    } finally {
      progress.end();
      await system.stop();
    }
  } finally {
    progress.end();
  }
  return exitCodes.done;
}
