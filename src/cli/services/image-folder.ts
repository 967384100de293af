import { mkdir, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type { Logger } from "pino";
import { createDirectoryStore } from "../../image/directory-store.js";
import type { ImageStore } from "../../image/image-store.js";
import { CliError, messageOf } from "../errors.js";
import type { OptionValues } from "../options/option.js";
import type { imageStoreLimits } from "../options/server-options.js";

/** Options of a service's image store; without a folder there is none. */
export type ImageStoreOptions = { readonly images: string | undefined } & OptionValues<typeof imageStoreLimits>;

/**
 * Opens the image store of a service; undefined without a folder.
 *
 * @throws CliError when the folder cannot be created.
 */
export async function imageStoreOf(
  { images, imageMaxBytes, imageMaxAge }: ImageStoreOptions,
  logger: Logger,
): Promise<ImageStore | undefined> {
  if (images === undefined) {
    return undefined;
  }
  await makeImageFolder(images);
  return createDirectoryStore({
    directory: images,
    maxBytes: imageMaxBytes,
    maxAgeMs: imageMaxAge * 1000,
    onRemoveError: (error, fileName) => logger.warn({ err: error, fileName }, "a stored image could not be removed"),
  });
}

/**
 * Creates a folder for images, and the folders above it. Not by Node's recursive `mkdir`: that one never returns for paths below `/proc`.
 *
 * @throws CliError that names the folder and the reason.
 */
export async function makeImageFolder(folder: string): Promise<void> {
  try {
    await makeFolder(resolve(folder));
  } catch (error) {
    throw new CliError(
      `cannot create the folder of --images, ${folder}: ${messageOf(error)}. Name a folder that this user can write`,
      { cause: error },
    );
  }
}

async function makeFolder(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory()) {
    return;
  }
  if (found !== undefined) {
    throw new Error(`${path} is not a folder`);
  }
  if (dirname(path) !== path) {
    await makeFolder(dirname(path));
  }
  await mkdir(path).catch((error: unknown) => {
    // Another service may have created it meanwhile.
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) {
      throw error;
    }
  });
}
