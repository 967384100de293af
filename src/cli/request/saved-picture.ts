import { relative } from "node:path";
import type { GenerateResponse } from "../../gen/throughline/v1/pipeline_pb.js";
import { CommandError } from "../command-error.js";
import { type PictureSource, pictureBytes } from "./picture-bytes.js";
import { writeFileWhole } from "./write-file-whole.js";

/** A picture that lies in a file, as `--json` tells of it. */
export interface SavedPicture {
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

/** A picture that was written to a file, and what is in it. */
export interface SavedBytes {
  readonly image: SavedPicture;
  readonly bytes: Uint8Array;
}

/**
 * Gets a response's picture and writes it to a file.
 *
 * @throws CommandError when there is none, or when it cannot be had or written.
 */
export async function savePicture(
  path: string,
  response: GenerateResponse,
  source: PictureSource,
): Promise<SavedBytes> {
  const { image } = response;
  if (image === undefined) {
    throw new CommandError("the response holds no picture");
  }
  const bytes = await pictureBytes(image, source);
  source.interrupt.throwIfAborted();
  writeFileWhole(path, bytes);
  const { width, height, contentType } = image;
  return { image: { path, width, height, contentType, fileSize: bytes.length }, bytes };
}

/** One line for a person: file, size, type, seed. */
export function describePicture({ path, width, height, contentType, fileSize }: SavedPicture, seed: number): string {
  const shown = relative(process.cwd(), path);
  const size = fileSize < 1024 ? `${fileSize} bytes` : `${Math.round(fileSize / 1024)} KiB`;
  return `${shown.startsWith("..") ? path : shown}  ${width}×${height} ${contentType}, ${size}, seed ${seed}`;
}
