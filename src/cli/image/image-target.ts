import { extname, resolve } from "node:path";
import { promptSlug } from "../../client/prompt-slug.js";
import { extensionOf, type ImageFormat } from "../../image/image-format.js";
import type { Output } from "../command.js";
import { usageError } from "../errors.js";
import { checkOutputPath } from "./write-file.js";

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
