import { resolve } from "node:path";
import { Delivery } from "../../gen/throughline/v1/image_pb.js";
import { traceToJson } from "../../studio/trace-tree.js";
import type { CommandContext } from "../command-context.js";
import { CommandError } from "../command-error.js";
import { exitCodes } from "../exit-codes.js";
import { startLocalSystem } from "../process/local-system.js";
import { missingSpans } from "../request/contract-spans.js";
import { fetchTrace } from "../request/fetch-trace.js";
import { pictureFileName } from "../request/picture-file-name.js";
import { requestPicture } from "../request/request-picture.js";
import { savePreviewsOf } from "../request/save-previews-of.js";
import { describePicture, savePicture } from "../request/saved-picture.js";
import { connectStudio } from "../request/studio-client.js";
import { checkPlaceFor } from "../request/write-file-whole.js";
import { findModel, showDownload } from "../service/find-model.js";
import type { demoSettings } from "../settings/demo-settings.js";
import type { SettingsOf } from "../settings/setting.js";
import { jsonLine } from "../terminal/json-line.js";
import { renderPicture } from "../terminal/picture-view.js";
import { createProgress } from "../terminal/progress.js";
import { isInteractive } from "../terminal/terminal.js";
import { renderTrace } from "../terminal/trace-view.js";

/** The services have exported all that they had; more would only come of a collector that is slow to take it. */
const traceIdleMs = 1000;
const traceWaitMs = 5000;

/**
 * Paints one picture with a collector, a worker and a pipeline of its own, each in a process of its own on a free port, and shows the
 * trace. Exit code 0 means that there is a picture and that every span of the contract arrived.
 */
export async function runDemo(
  settings: SettingsOf<typeof demoSettings>,
  context: CommandContext,
  prompt: string,
): Promise<number> {
  const { model, device, precision, threads, quiet, json } = settings;
  const { environment, stdout, stderr, interrupt } = context;
  const path = resolve(settings.out ?? pictureFileName(prompt, settings.format));
  checkPlaceFor(path);
  const progress = createProgress(context, quiet || json);
  const ports = { collector: 0, worker: 0, pipeline: 0 };
  try {
    // Fetched here, where a person sees how far it is; the worker then finds it in the cache.
    await findModel(model, context, showDownload(progress, isInteractive(stderr, environment)));
    progress.phase("starting the services");
    const system = await startLocalSystem({
      ports,
      model,
      device,
      precision,
      threads,
      images: undefined,
      apps: undefined,
      logLevel: "error",
      environment,
      onLog: (line) => progress.above(() => stderr.write(`${line}\n`)),
      interrupt,
    });
    try {
      const response = await requestPicture(
        { ...settings, prompt, workerApp: undefined, delivery: Delivery.DATA_URI },
        {
          server: system.pipeline.url,
          timeoutMs: undefined,
          interrupt,
          progress,
          onPreview: savePreviewsOf(path),
        },
      );
      const { image, bytes } = await savePicture(path, response, {
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
      stdout.write(
        json
          ? jsonLine({ traceId, seed, image, ...traceToJson(spans) })
          : `${renderPicture({ ...image, bytes }, settings, context)}${describePicture(image, seed)}\n\n` +
              `trace ${traceId}\n${renderTrace(spans, context)}`,
      );
      const missing = missingSpans(spans);
      if (missing.length > 0) {
        throw new CommandError(`the picture was made, but these spans did not arrive: ${missing.join(", ")}`);
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
