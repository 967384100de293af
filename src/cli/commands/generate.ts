import { Delivery } from "../../gen/throughline/v1/image_pb.js";
import { traceToJson } from "../../studio/trace-tree.js";
import type { SpanRecord } from "../../trace/span-record.js";
import type { CommandContext } from "../command.js";
import { CliError, exitCodes } from "../errors.js";
import { withImageSettings } from "../image/image-settings.js";
import { imageTargetOf, toStdout } from "../image/image-target.js";
import { readInitImage } from "../image/init-image.js";
import { describeImage, saveImage, savePreviewsOf } from "../image/save-image.js";
import { defaultCollectorUrl } from "../options/client-options.js";
import type { generateOptions } from "../options/command-options.js";
import type { OptionValues } from "../options/option.js";
import { accessOf } from "../services/security.js";
import { renderImage } from "../terminal/inline-image.js";
import { createProgress } from "../terminal/progress.js";
import { jsonLine, renderTrace } from "../terminal/terminal.js";
import { requestImage } from "./request-image.js";
import { connectStudio, fetchTrace, studioLinkOf } from "./studio-client.js";

type GenerateSettings = OptionValues<typeof generateOptions>;

/** Any other text could control the terminal. */
const traceIdPattern = /^[0-9a-f]{32}$/;

/** Time limit for an image's download without `--timeout`, in milliseconds. */
const fetchMs = 300_000;

/** Asks a pipeline that runs elsewhere for one image and writes it to a file. */
export async function runGenerate(
  given: GenerateSettings,
  context: CommandContext,
  givenPrompt: string,
): Promise<number> {
  const { flags: settings, prompt } = await withImageSettings(given, givenPrompt, context);
  const { server, timeout, quiet, json } = settings;
  const { stdout, interrupt } = context;
  const { path, format } = imageTargetOf(settings, prompt, stdout);
  const initImage = await readInitImage(settings);
  const access = accessOf(settings);
  const progress = createProgress(context, quiet || json);
  const timeoutMs = timeout === undefined ? undefined : Math.ceil(timeout * 1000);
  const begin = performance.now();
  try {
    const response = await requestImage(
      { ...settings, initImage, prompt, format, delivery: deliveryOf(settings) },
      { server, access, timeoutMs, interrupt, progress, onPreview: savePreviewsOf(path) },
    );
    progress.end();
    const { image, bytes } = await saveImage(path, response, {
      ...context,
      server,
      timeoutMs: timeoutMs === undefined ? fetchMs : Math.max(0, begin + timeoutMs - performance.now()),
    });
    const { seed } = response;
    const traceId = traceIdPattern.test(response.traceId) ? response.traceId : "";
    if (json) {
      const spans = settings.collector === undefined ? {} : traceToJson(await traceOf(traceId, settings, context));
      stdout.write(jsonLine({ traceId, seed, image, ...spans }));
      return exitCodes.done;
    }
    if (path === toStdout) {
      return exitCodes.done;
    }
    stdout.write(`${renderImage({ ...image, bytes }, settings, context)}${describeImage(image, response)}\n`);
    if (traceId !== "") {
      const [spans, link] = await Promise.all([
        traceOf(traceId, settings, context),
        studioLinkOf(connectStudio(server, access), traceId, interrupt),
      ]);
      stdout.write(`${spans.length === 0 ? "" : "\n"}trace ${traceId}\n${link === undefined ? "" : `${link}\n`}`);
      stdout.write(spans.length === 0 ? "" : renderTrace(spans, context));
    }
  } finally {
    progress.end();
  }
  return exitCodes.done;
}

/** Short, because the image is there already. */
const traceIdleMs = 1000;
const traceWaitMs = 1200;

/** The trace, if a collector has it in time. Only an explicit --collector that does not answer is reported. */
async function traceOf(traceId: string, settings: GenerateSettings, context: CommandContext): Promise<SpanRecord[]> {
  const { server, collector } = settings;
  const { stderr, interrupt } = context;
  const asked = collector ?? (isOnThisMachine(server) ? defaultCollectorUrl : undefined);
  if (traceId === "" || asked === undefined) {
    return [];
  }
  try {
    // Without the API key, which is for the pipeline only.
    const source = connectStudio(asked);
    return await fetchTrace({ ...source, traceId, idleMs: traceIdleMs, waitMs: traceWaitMs, interrupt });
  } catch (error) {
    if (error === interrupt.reason || !(error instanceof CliError)) {
      throw error;
    }
    if (collector !== undefined) {
      stderr.write(`throughline: no trace: ${error.message}\n`);
    }
    return [];
  }
}

function isOnThisMachine(server: string): boolean {
  return /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/.test(new URL(server).hostname);
}

function deliveryOf({ delivery, tlsCa }: GenerateSettings): Delivery {
  switch (delivery) {
    case "url":
      return Delivery.URL;
    case "data-uri":
      return Delivery.DATA_URI;
    case "inline":
      return Delivery.INLINE;
    case undefined:
      // A fetch of the image's URL would not use these authorities.
      return tlsCa === undefined ? Delivery.UNSPECIFIED : Delivery.DATA_URI;
  }
}
