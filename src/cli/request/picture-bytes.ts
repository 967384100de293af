import type { Image } from "../../gen/throughline/v1/image_pb.js";
import { formatOfContentType, parseDataUri } from "../../image/encode-image.js";
import { printable } from "../../studio/trace-text.js";
import type { CommandContext } from "../command-context.js";
import { CommandError } from "../command-error.js";
import { beginsLike } from "./picture-signature.js";

/** More than any picture of 2,048 × 2,048 pixels needs, which is the largest that a pipeline paints. */
export const maxPictureBytes = 64 * 1024 * 1024;

/** Who told of a picture, and how to get it. */
export interface PictureSource extends Pick<CommandContext, "stderr" | "interrupt"> {
  /** Base URL of the service that was asked. A picture that lies elsewhere is fetched with a warning. */
  readonly server: string;
  /** Milliseconds until a fetch is given up; undefined for no end. */
  readonly timeoutMs: number | undefined;
}

/**
 * The encoded picture that a response tells of: in its `data`, out of its `data:` URI, or fetched from its URL.
 *
 * @throws CommandError when it cannot be had, or is not what the response says: its length, its type.
 */
export async function pictureBytes(image: Image, source: PictureSource): Promise<Uint8Array> {
  const { fileSize, contentType } = image;
  const format = formatOfContentType(contentType);
  if (format === undefined) {
    throw new CommandError(
      `the response says that the picture is "${printable(contentType)}", which is no type of ours`,
    );
  }
  if (fileSize > maxPictureBytes) {
    throw new CommandError(`the picture should have ${fileSize} bytes, and ${maxPictureBytes} are the most`);
  }
  const bytes = await bytesOf(image, source);
  if (bytes === undefined) {
    throw new CommandError("the response holds a data: URI that is no picture");
  }
  if (bytes.length !== fileSize) {
    throw new CommandError(`the picture should have ${fileSize} bytes and has ${bytes.length}`);
  }
  if (!beginsLike(format, bytes)) {
    throw new CommandError(`the picture should be ${contentType} and is something else`);
  }
  return bytes;
}

async function bytesOf({ data, url, fileSize }: Image, source: PictureSource): Promise<Uint8Array | undefined> {
  if (data.length > 0) {
    return data;
  }
  return url.startsWith("data:") ? parseDataUri(url)?.bytes : fromUrl(url, fileSize, source);
}

function fromUrl(url: string, maxBytes: number, source: PictureSource): Promise<Uint8Array> {
  const { protocol, origin } = URL.canParse(url) ? new URL(url) : { protocol: "", origin: "" };
  if (protocol !== "http:" && protocol !== "https:") {
    throw new CommandError(`the response says that the picture is at "${printable(url)}", which is no http(s) URL`);
  }
  if (origin !== new URL(source.server).origin) {
    source.stderr.write(`throughline: the picture is fetched from ${printable(origin)}, not from ${source.server}\n`);
  }
  return fetchPicture(url, { maxBytes, timeoutMs: source.timeoutMs, interrupt: source.interrupt });
}

/** How far to go for a picture. */
export interface PictureFetch {
  /** Reading ends with an error where there are more. */
  readonly maxBytes: number;
  /** Milliseconds until it is given up, the last byte included; undefined for no end. */
  readonly timeoutMs: number | undefined;
  readonly interrupt: AbortSignal;
}

/**
 * Fetches from a URL that a server named. It follows no redirect, which could lead to where only this machine may go.
 *
 * @throws CommandError naming the URL, or the reason of `interrupt`.
 */
export async function fetchPicture(url: string, { maxBytes, timeoutMs, interrupt }: PictureFetch): Promise<Uint8Array> {
  const over = new AbortController();
  const giveUp = () => over.abort(new Error("the time for the request is over"));
  const timer = timeoutMs === undefined ? undefined : setTimeout(giveUp, timeoutMs);
  try {
    const response = await fetch(url, { signal: AbortSignal.any([interrupt, over.signal]), redirect: "error" });
    if (!response.ok) {
      throw new Error(`status ${response.status}`);
    }
    return await readBody(response, maxBytes);
  } catch (error) {
    interrupt.throwIfAborted();
    // What fetch throws says only "fetch failed"; the reason is its cause.
    const reason = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const words = printable(reason instanceof Error ? reason.message : String(reason));
    throw new CommandError(`cannot fetch the picture from ${printable(url)}: ${words}`, { cause: error });
  } finally {
    clearTimeout(timer);
    // What was not read is not wanted.
    over.abort();
  }
}

async function readBody({ body }: Response, maxBytes: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(maxBytes);
  let length = 0;
  for await (const chunk of body ?? []) {
    if (length + chunk.length > maxBytes) {
      throw new Error(`it has more than the ${maxBytes} bytes that it should have`);
    }
    bytes.set(chunk, length);
    length += chunk.length;
  }
  return bytes.subarray(0, length);
}
