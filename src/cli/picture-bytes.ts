import type { Image } from "../gen/throughline/v1/image_pb.js";
import { parseDataUri } from "../image/data-uri.js";
import { CommandError } from "./command-error.js";

/**
 * The encoded picture that a response tells of: out of its `data:` URI, or fetched from its URL.
 *
 * @throws CommandError when it cannot be had, or is not as long as the response says.
 */
export async function pictureBytes(image: Image, interrupt: AbortSignal): Promise<Uint8Array> {
  const bytes = image.url.startsWith("data:") ? parseDataUri(image.url)?.bytes : await fetchBytes(image.url, interrupt);
  if (bytes === undefined) {
    throw new CommandError("the response holds a data: URI that is no picture");
  }
  if (bytes.length !== image.fileSize) {
    throw new CommandError(`the picture should have ${image.fileSize} bytes and has ${bytes.length}`);
  }
  return bytes;
}

async function fetchBytes(url: string, interrupt: AbortSignal): Promise<Uint8Array> {
  try {
    const response = await fetch(url, { signal: interrupt });
    if (!response.ok) {
      throw new Error(`status ${response.status}`);
    }
    return new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    interrupt.throwIfAborted();
    // What fetch throws says only "fetch failed"; the reason is its cause.
    const reason = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const words = reason instanceof Error ? reason.message : String(reason);
    throw new CommandError(`cannot fetch the picture from ${url}: ${words}`, { cause: error });
  }
}
