import { randomUUID } from "node:crypto";
import {
  accessSync,
  closeSync,
  constants,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, extname, join, relative, resolve } from "node:path";
import { promptSlug } from "../../client/prompt-slug.js";
import type { Image, Progress } from "../../gen/throughline/v1/image_pb.js";
import type { GenerateResponse } from "../../gen/throughline/v1/pipeline_pb.js";
import { extensionOf, formatOfContentType, type ImageFormat, parseDataUri } from "../../image/image-format.js";
import { printable } from "../../studio/trace-text.js";
import type { CommandContext, Output } from "../command.js";
import { CliError, messageOf, usageError } from "../errors.js";

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

/** A saved image, as `--json` prints it. */
export interface SavedImage {
  /** Absolute path of the file. */
  readonly path: string;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
  readonly contentType: string;
  /** Bytes. */
  readonly fileSize: number;
}

/** An image that was written to a file, and what is in it. */
export interface SavedBytes {
  readonly image: SavedImage;
  readonly bytes: Uint8Array;
}

/**
 * Gets a response's image and writes it to a file.
 *
 * @throws CliError when there is none, or when it cannot be had or written.
 */
export async function saveImage(
  path: string,
  response: GenerateResponse,
  source: ImageSource & Pick<CommandContext, "stdout">,
): Promise<SavedBytes> {
  const { image } = response;
  if (image === undefined) {
    throw new CliError("the response holds no image");
  }
  const bytes = await imageBytes(image, source);
  source.interrupt.throwIfAborted();
  if (path === toStdout) {
    source.stdout.write(bytes);
  } else {
    writeFileWhole(path, bytes);
  }
  const { width, height, contentType } = image;
  return { image: { path, width, height, contentType, fileSize: bytes.length }, bytes };
}

/** One line for a person: file, size, type, seed. */
export function describeImage({ path, width, height, contentType, fileSize }: SavedImage, seed: number): string {
  const shown = relative(process.cwd(), path);
  const size = fileSize < 1024 ? `${fileSize} bytes` : `${Math.round(fileSize / 1024)} KiB`;
  return `${shown.startsWith("..") ? path : shown}  ${width}×${height} ${contentType}, ${size}, seed ${seed}`;
}

/**
 * Creates the writer of an image's previews: `a-red-heart-step-5.png` beside `a-red-heart.png`. It skips what is not an image.
 *
 * @param path file of the image.
 */
export function savePreviewsOf(path: string): (progress: Progress) => void {
  if (path === toStdout) {
    return () => {};
  }
  const base = path.slice(0, path.length - extname(path).length);
  return ({ step, preview, previewContentType }) => {
    const format = formatOfContentType(previewContentType);
    if (format !== undefined && beginsLike(format, preview)) {
      writeFileWhole(`${base}-step-${step}.${extensionOf(format)}`, preview);
    }
  };
}

const formatOfExtension = new Map<string, ImageFormat>([
  [".png", "png"],
  [".jpg", "jpeg"],
  [".jpeg", "jpeg"],
  [".webp", "webp"],
]);

/** `--out` value for stdout. */
export const toStdout = "-";

/** Where an image goes, and how it is encoded. */
export interface ImageTarget {
  /** Absolute path of a file, or {@link toStdout}. */
  readonly path: string;
  readonly format: ImageFormat | undefined;
}

/**
 * The file and the format that `--out` and `--format` select: the extension of the file sets the format.
 *
 * @throws CliError when the two differ, when the file cannot be written, or when stdout has another use.
 */
export function imageTargetOf(
  { out, format, json }: { out: string | undefined; format: ImageFormat | undefined; json: boolean },
  prompt: string,
  stdout: Output,
): ImageTarget {
  if (out === toStdout) {
    if (json || stdout.isTTY) {
      throw usageError(
        json
          ? "--out - and --json both write to stdout: use one of them"
          : "--out - would write the image's bytes to the terminal: redirect stdout to a file or a pipe",
      );
    }
    return { path: out, format };
  }
  const extension = out === undefined ? "" : extname(out).toLowerCase();
  const named = formatOfExtension.get(extension);
  if (format === undefined && named === undefined && extension !== "") {
    throw usageError(
      `--out ${out}: ${extension} is no format of images here; rename it to .png, .jpg, .jpeg or .webp, or set --format`,
    );
  }
  if (format !== undefined && named !== undefined && format !== named) {
    throw usageError(
      `--out ${out} is a ${named} file and --format is ${format}: leave out --format, or rename the file`,
    );
  }
  const path = resolve(out ?? imageFileName(prompt, format));
  checkOutputPath(path);
  return { path, format: format ?? named };
}

/** A file name for the image of a prompt, such as `a-red-heart.png`; see {@link promptSlug}. */
export function imageFileName(prompt: string, format: ImageFormat = "png"): string {
  return `${promptSlug(prompt)}.${extensionOf(format)}`;
}

/**
 * Checks that a file can be written, before the image is requested.
 *
 * @throws CliError naming the path.
 */
export function checkOutputPath(path: string): void {
  const folder = dirname(path);
  try {
    if (!statSync(folder).isDirectory()) {
      throw new CliError(`cannot write ${path}: ${folder} is not a folder`);
    }
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw error instanceof CliError ? error : cannotWrite(path, error);
  }
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    throw new CliError(`cannot write ${path}: it is a folder`);
  }
}

/**
 * Writes a file beside its place and then renames it, so that neither a reader nor a crash sees half of it. It blocks on purpose: no signal
 * handler runs in between, so an interrupted command leaves no draft behind.
 *
 * @throws CliError naming the path; nothing is then left behind.
 */
export function writeFileWhole(path: string, bytes: Uint8Array): void {
  const draft = join(dirname(path), `.${randomUUID()}.tmp`);
  try {
    const file = openSync(draft, "wx");
    try {
      writeFileSync(file, bytes);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(draft, path);
  } catch (cause) {
    try {
      rmSync(draft, { force: true });
    } catch {
      // The first failure is reported.
    }
    throw cannotWrite(path, cause);
  }
}

function cannotWrite(path: string, cause: unknown): CliError {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  const reason = reasons.get(code) ?? (cause instanceof Error ? cause.message : "unknown error");
  return new CliError(`cannot write ${path}: ${reason}`, { cause });
}

const reasons = new Map([
  ["ENOENT", "its folder does not exist"],
  ["ENOTDIR", "its folder is a file"],
  ["EACCES", "its folder may not be written to"],
  ["EPERM", "its folder may not be written to"],
  ["EROFS", "its folder may not be written to"],
  ["ENOSPC", "the disk is full"],
]);
