import { lstat, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { LRUCache } from "lru-cache";
import { type EncodedImage, formatOfFileName } from "./image-format.js";
import { type ImageStore, imageFileName, imageFileNameOf } from "./image-store.js";
import { isDraft, readStoredFile, writeAtomically } from "./stored-files.js";

/** Options of {@link createDirectoryStore}. */
export interface DirectoryStoreOptions {
  /** Folder of the images, created if missing. Use it from one process only. */
  readonly directory: string;
  /** Maximum total size, in bytes; the least recently read image is removed first. @default 1 GiB */
  readonly maxBytes?: number;
  /** Maximum age of an image after its last `put`, in milliseconds. @default 24 hours */
  readonly maxAgeMs?: number;
  /** Called when an image could not be removed. */
  readonly onRemoveError?: (error: unknown, fileName: string) => void;
}

/** Default maximum size: 1 GiB. */
export const defaultMaxBytes = 2 ** 30;
/** Default maximum age: a day, in milliseconds. */
export const defaultMaxAgeMs = 24 * 60 * 60 * 1000;

/**
 * Create a store in a folder, with limits of size and age. Images are written to a temporary file and renamed, so readers never see a partial
 * one. Images of earlier runs are kept.
 */
export async function createDirectoryStore(options: DirectoryStoreOptions): Promise<ImageStore> {
  const { directory, maxBytes = defaultMaxBytes, maxAgeMs = defaultMaxAgeMs, onRemoveError } = options;
  for (const [name, value] of Object.entries({ maxBytes, maxAgeMs })) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new Error(`${name} must be a whole number of at least 1, got ${value}`);
    }
  }
  await mkdir(directory, { recursive: true });

  const inSequence = createSequences();
  const remove = (fileName: string): void => {
    inSequence(fileName, async () => {
      // Unless the image was put again meanwhile.
      if (!index.has(fileName)) {
        await rm(join(directory, fileName), { force: true });
      }
    }).catch((error: unknown) => onRemoveError?.(error, fileName));
  };
  const index = new LRUCache<string, { readonly size: number }>({
    maxSize: maxBytes,
    sizeCalculation: ({ size }) => size,
    ttl: maxAgeMs,
    ttlAutopurge: true,
    noDisposeOnSet: true,
    dispose: (_value, fileName) => remove(fileName),
  });

  for (const { fileName, size, ageMs } of await imagesIn(directory)) {
    // A power loss may leave empty files.
    if (ageMs >= maxAgeMs || size > maxBytes || size === 0) {
      remove(fileName);
    } else {
      index.set(fileName, { size }, { ttl: maxAgeMs - ageMs });
    }
  }

  return {
    async put(image: EncodedImage): Promise<string> {
      const { bytes } = image;
      if (bytes.length > maxBytes) {
        throw new Error(`an image of ${bytes.length} bytes does not fit into a store of ${maxBytes}`);
      }
      const fileName = imageFileNameOf(image);
      await inSequence(fileName, async () => {
        await writeAtomically(directory, fileName, bytes);
        index.set(fileName, { size: bytes.length });
      });
      return fileName;
    },

    async get(fileName: string) {
      const format = formatOfFileName(fileName);
      if (format === undefined || !imageFileName.test(fileName) || index.get(fileName) === undefined) {
        return undefined;
      }
      const bytes = await readStoredFile(join(directory, fileName));
      return bytes && { bytes, format };
    },
  };
}

/** Run tasks of the same name in sequence, so that a removal never deletes a newer image. */
function createSequences() {
  const last = new Map<string, Promise<void>>();
  return async (name: string, task: () => Promise<void>): Promise<void> => {
    const mine = (last.get(name) ?? Promise.resolve()).then(task);
    const settled = mine.catch(() => {});
    last.set(name, settled);
    try {
      await mine;
    } finally {
      if (last.get(name) === settled) {
        last.delete(name);
      }
    }
  };
}

/** List the images of earlier runs, oldest first. Removes temporary files of a crash; ignores other files. */
async function imagesIn(directory: string) {
  const found: { fileName: string; size: number; ageMs: number }[] = [];
  for (const fileName of await readdir(directory)) {
    if (isDraft(fileName)) {
      await rm(join(directory, fileName), { force: true });
    } else if (imageFileName.test(fileName)) {
      const file = await lstat(join(directory, fileName));
      if (file.isFile()) {
        found.push({ fileName, size: file.size, ageMs: Math.max(0, Date.now() - file.mtimeMs) });
      }
    }
  }
  return found.sort((a, b) => b.ageMs - a.ageMs);
}
