import type { Image } from "../../gen/throughline/v1/image_pb.js";
import { formatOfContentType, type ImageFormat, parseDataUri } from "../../image/image-format.js";
import { printable } from "../../studio/trace-text.js";
import type { CommandContext } from "../command.js";
import { CliError, messageOf } from "../errors.js";

/** More than any image of 2,048 × 2,048 pixels needs, which is the largest that a pipeline generates. */
export const maxImageBytes = 64 * 1024 * 1024;

/** The server of an image, and how to fetch it. */
export interface ImageSource extends Pick<CommandContext, "stderr" | "interrupt"> {
  /** Base URL of the service that was asked. An image of another origin is fetched with a warning. */
  readonly server: string;
  /** Milliseconds after which a fetch fails; undefined for no limit. */
  readonly timeoutMs: number | undefined;
}

/**
 * Returns the encoded image of a response: its `data`, its `data:` URI, or the content of its URL.
 *
 * @throws CliError if it cannot be fetched, or if its length or type differs from the response's.
 */
export async function imageBytes(image: Image, source: ImageSource): Promise<Uint8Array> {
  const { fileSize, contentType } = image;
  const format = formatOfContentType(contentType);
  if (format === undefined) {
    throw new CliError(
      `the response says that the image is "${printable(contentType)}", which is not an image format here`,
    );
  }
  if (fileSize > maxImageBytes) {
    throw new CliError(`the image should have ${fileSize} bytes, and ${maxImageBytes} are the most`);
  }
  const bytes = await bytesOf(image, source);
  if (bytes === undefined) {
    throw new CliError("the response has a data: URI that is not an image");
  }
  if (bytes.length !== fileSize) {
    throw new CliError(`the image should have ${fileSize} bytes and has ${bytes.length}`);
  }
  if (!beginsLike(format, bytes)) {
    throw new CliError(`the image should be ${contentType} and is something else`);
  }
  return bytes;
}

async function bytesOf({ data, url, fileSize }: Image, source: ImageSource): Promise<Uint8Array | undefined> {
  if (data.length > 0) {
    return data;
  }
  return url.startsWith("data:") ? parseDataUri(url)?.bytes : fromUrl(url, fileSize, source);
}

function fromUrl(url: string, maxBytes: number, source: ImageSource): Promise<Uint8Array> {
  const { protocol, origin } = URL.canParse(url) ? new URL(url) : { protocol: "", origin: "" };
  if (protocol !== "http:" && protocol !== "https:") {
    throw new CliError(`the response says that the image is at "${printable(url)}", which is no http(s) URL`);
  }
  if (origin !== new URL(source.server).origin) {
    source.stderr.write(`throughline: the image is fetched from ${printable(origin)}, not from ${source.server}\n`);
  }
  return fetchImage(url, { maxBytes, timeoutMs: source.timeoutMs, interrupt: source.interrupt });
}

/** Limits of {@link fetchImage}. */
export interface ImageFetch {
  /** A longer body is an error. */
  readonly maxBytes: number;
  /** Milliseconds after which it fails, the last byte included; undefined for no limit. */
  readonly timeoutMs: number | undefined;
  readonly interrupt: AbortSignal;
}

/**
 * Fetches from a URL that a server named. It follows no redirect, which could lead to an address that only this machine can reach.
 *
 * @throws CliError naming the URL, or the reason of `interrupt`.
 */
export async function fetchImage(url: string, { maxBytes, timeoutMs, interrupt }: ImageFetch): Promise<Uint8Array> {
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
    // fetch's own message is "fetch failed"; its cause has the reason.
    const reason = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const message = printable(messageOf(reason));
    throw new CliError(`cannot fetch the image from ${printable(url)}: ${message}`, { cause: error });
  } finally {
    clearTimeout(timer);
    // Cancels the rest of the body.
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

/** How a file of each format begins, in hexadecimal. */
const signatures: Record<ImageFormat, RegExp> = {
  png: /^89504e470d0a1a0a/,
  jpeg: /^ffd8ff/,
  // RIFF, any length, WEBP.
  webp: /^52494646.{8}57454250/,
};

/** Whether bytes begin as every file of a format does. */
export function beginsLike(format: ImageFormat, bytes: Uint8Array): boolean {
  return signatures[format].test(Buffer.from(bytes.subarray(0, 12)).toString("hex"));
}
