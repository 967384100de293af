import { resolve } from "node:path";
import { Delivery } from "../../gen/throughline/v1/image_pb.js";
import type { CommandContext } from "../command-context.js";
import { exitCodes } from "../exit-codes.js";
import { pictureFileName } from "../request/picture-file-name.js";
import { requestPicture } from "../request/request-picture.js";
import { savePreviewsOf } from "../request/save-previews-of.js";
import { describePicture, savePicture } from "../request/saved-picture.js";
import { checkPlaceFor } from "../request/write-file-whole.js";
import { serverAccessOf } from "../service/server-access.js";
import type { generateSettings } from "../settings/generate-settings.js";
import type { SettingsOf } from "../settings/setting.js";
import { createProgress } from "../terminal/progress.js";

/** Anything else that a server calls a trace id is none, and could steer the terminal. */
const traceIdPattern = /^[0-9a-f]{32}$/;

/** Asks a pipeline that runs elsewhere for one picture and writes it to a file. */
export async function runGenerate(
  settings: SettingsOf<typeof generateSettings>,
  context: CommandContext,
  prompt: string,
): Promise<number> {
  const { server, timeout, quiet, json } = settings;
  const { stdout, stderr, interrupt } = context;
  const path = resolve(settings.out ?? pictureFileName(prompt, settings.format));
  checkPlaceFor(path);
  const access = serverAccessOf(settings);
  const progress = createProgress(stderr, quiet || json);
  const timeoutMs = Math.ceil(timeout * 1000);
  const begin = performance.now();
  try {
    const response = await requestPicture(
      { ...settings, prompt, delivery: deliveryOf(settings) },
      { server, access, timeoutMs, interrupt, progress, onPreview: savePreviewsOf(path) },
    );
    progress.end();
    const image = await savePicture(path, response, {
      ...context,
      server,
      timeoutMs: Math.max(0, begin + timeoutMs - performance.now()),
    });
    const { seed } = response;
    const traceId = traceIdPattern.test(response.traceId) ? response.traceId : "";
    if (json) {
      stdout.write(`${JSON.stringify({ traceId, seed, image })}\n`);
    } else {
      stdout.write(`${describePicture(image, seed)}\n${traceId === "" ? "" : `trace ${traceId}\n`}`);
    }
  } finally {
    progress.end();
  }
  return exitCodes.done;
}

function deliveryOf({ delivery, tlsCa }: SettingsOf<typeof generateSettings>): Delivery {
  switch (delivery) {
    case "url":
      return Delivery.URL;
    case "data-uri":
      return Delivery.DATA_URI;
    case undefined:
      // A fetch of the picture's URL would know nothing of the authorities.
      return tlsCa === undefined ? Delivery.UNSPECIFIED : Delivery.DATA_URI;
  }
}
