import type { Image } from "../../gen/throughline/v1/image_pb.js";
import { parseDataUri } from "../../image/data-uri.js";
import { formatOfContentType } from "../../image/image-format.js";
import { printable } from "../../studio/printable.js";
import type { CommandContext } from "../command-context.js";
import { CommandError } from "../command-error.js";
import { fetchPicture } from "./fetch-picture.js";
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
