import type { Logger } from "pino";
import { createDirectoryStore } from "../../image/directory-store.js";
import type { ImageStore } from "../../image/image-store.js";

/** Settings of an image store, as the services have them. */
export interface ImageStoreSettings {
  /** Folder; undefined for no store. */
  readonly images: string | undefined;
  /** Bytes. */
  readonly imageMaxBytes: number;
  /** Seconds. */
  readonly imageMaxAge: number;
}

/** The image store that a service's settings ask for; undefined where they ask for none. */
export async function imageStoreOf(settings: ImageStoreSettings, logger: Logger): Promise<ImageStore | undefined> {
  if (settings.images === undefined) {
    return undefined;
  }
  return createDirectoryStore({
    directory: settings.images,
    maxBytes: settings.imageMaxBytes,
    maxAgeMs: settings.imageMaxAge * 1000,
    onRemoveError: (error, fileName) => logger.warn({ err: error, fileName }, "a stored picture could not be removed"),
  });
}
