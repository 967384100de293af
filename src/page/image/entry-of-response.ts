import type { GenerateResponse } from "../../contracts/contracts.js";
import type { Asked } from "../request/generation.js";
import { bytesOfDataUri, type HistoryEntry } from "./history.js";

/** What an entry needs besides the response. */
export interface EntryOptions {
  readonly nowMs: number;
  readonly elapsedMs: number;
  readonly makeThumbnail: (image: Blob) => Promise<Blob>;
}

/** The history's entry of a response; undefined for one without the image in it. */
export async function entryOfResponse(
  asked: Asked,
  response: GenerateResponse,
  { nowMs, elapsedMs, makeThumbnail }: EntryOptions,
): Promise<HistoryEntry | undefined> {
  const image = response.image;
  const data = bytesOfDataUri(image?.url ?? "");
  if (image === undefined || data === undefined) {
    return undefined;
  }
  const blob = new Blob([data.bytes], { type: data.contentType });
  return {
    id: `${nowMs}-${response.seed}`,
    generatedAtMs: nowMs,
    form: { ...asked.form, seed: String(response.seed) },
    start: asked.start,
    seed: response.seed,
    model: response.model,
    executionProvider: response.executionProvider,
    traceId: response.traceId,
    elapsedMs,
    truncatedTokens: response.truncatedTokens,
    width: image.width,
    height: image.height,
    contentType: data.contentType,
    image: blob,
    // A browser that cannot make a small one shows the image itself, scaled.
    thumbnail: await makeThumbnail(blob).catch(() => blob),
  };
}
