import { extname, relative } from "node:path";
import type { Progress } from "../../gen/throughline/v1/image_pb.js";
import type { GenerateResponse } from "../../gen/throughline/v1/pipeline_pb.js";
import { extensionOf, formatOfContentType } from "../../image/image-format.js";
import { printable } from "../../studio/trace-text.js";
import type { CommandContext } from "../command.js";
import { CliError } from "../errors.js";
import { beginsLike, type ImageSource, imageBytes } from "./fetch-image.js";
import { toStdout } from "./image-target.js";
import { writeFileWhole } from "./write-file.js";

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

/** For a person: file, size, type and seed; in a second line, why a distilled model's defaults were taken. */
export function describeImage(
  { path, width, height, contentType, fileSize }: SavedImage,
  { seed, settings, defaultsReason }: Pick<GenerateResponse, "seed" | "settings" | "defaultsReason">,
): string {
  const shown = relative(process.cwd(), path);
  const size = fileSize < 1024 ? `${fileSize} bytes` : `${Math.round(fileSize / 1024)} KiB`;
  const line = `${shown.startsWith("..") ? path : shown}  ${width}×${height} ${contentType}, ${size}, seed ${seed}`;
  if (defaultsReason === "") {
    return line;
  }
  const { numInferenceSteps, guidanceScale } = settings ?? {};
  return `${line}\n${numInferenceSteps} steps at guidance ${guidanceScale}; the model is distilled: ${printable(defaultsReason, 200)}`;
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
