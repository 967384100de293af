import { lstat, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { LRUCache } from "lru-cache";
import { type EncodedImage, formatOfFileName } from "./image-format.js";
import { type ImageStore, imageFileName, imageFileNameOf } from "./image-store.js";
import { isDraft, readStoredFile, writeAtomically } from "./stored-files.js";

/** Options of {@link createDirectoryStore}. */
export interface DirectoryStoreOptions {
  /** Folder of the images, created if missing. Several processes may use it. */
  readonly directory: string;
  /**
   * Maximum total size, in bytes, of the images that this process knows: those it found at its start, has stored or has read. The least
   * recently read one is removed first. @default 1 GiB
   */
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
 *
 * Processes that share the folder return each other's images. Equal images are one file: none removes a file that another has stored again
 * since.
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
  const remove = (fileName: string, known: KnownImage, isExpired: boolean): void => {
    inSequence(fileName, async () => {
      // Unless the image was put again meanwhile.
      if (index.has(fileName)) {
        return;
      }
      const found = await imageIn(directory, fileName);
      if (found === undefined || found.mtimeMs <= known.mtimeMs) {
        await rm(join(directory, fileName), { force: true });
      } else if (isExpired) {
        // Another process has stored it again, and may be gone when its time is over.
        keep(fileName, found);
      }
    }).catch((error: unknown) => onRemoveError?.(error, fileName));
  };
  const index = new LRUCache<string, KnownImage>({
    maxSize: maxBytes,
    sizeCalculation: ({ size }) => size,
    ttl: maxAgeMs,
    ttlAutopurge: true,
    noDisposeOnSet: true,
    dispose: (known, fileName, reason) => remove(fileName, known, reason === "expire"),
  });
  /** Takes a file of the folder into the index, unless its time is over. */
  const keep = (fileName: string, found: KnownImage): boolean => {
    const ageMs = Math.max(0, Date.now() - found.mtimeMs);
    // A power loss may leave empty files.
    const fits = ageMs < maxAgeMs && found.size <= maxBytes && found.size > 0;
    if (fits) {
      index.set(fileName, found, { ttl: maxAgeMs - ageMs });
    }
    return fits;
  };

  for (const { fileName, ...found } of await imagesIn(directory)) {
    if (!keep(fileName, found)) {
      remove(fileName, found, false);
    }
  }

  /** Whether a name is of an image here, also of one that another process has stored. */
  const isKnown = async (fileName: string): Promise<boolean> =>
    index.get(fileName) !== undefined ||
    // After a removal that has begun.
    (await inSequence(fileName, async () => {
      const found = await imageIn(directory, fileName);
      return found !== undefined && keep(fileName, found);
    }));

  return {
    async put(image: EncodedImage): Promise<string> {
      const { bytes } = image;
      if (bytes.length > maxBytes) {
        throw new Error(`an image of ${bytes.length} bytes does not fit into a store of ${maxBytes}`);
      }
      const fileName = imageFileNameOf(image);
      await inSequence(fileName, async () => {
        const mtimeMs = await writeAtomically(directory, fileName, bytes);
        index.set(fileName, { size: bytes.length, mtimeMs });
      });
      return fileName;
    },

    async get(fileName: string) {
      const format = formatOfFileName(fileName);
      if (format === undefined || !imageFileName.test(fileName) || !(await isKnown(fileName))) {
        return undefined;
      }
      const bytes = await readStoredFile(join(directory, fileName));
      if (bytes === undefined) {
        // Another process has removed it.
        index.delete(fileName);
        return undefined;
      }
      return { bytes, format };
    },
  };
}

/** Run tasks of the same name in sequence, so that a removal never deletes a newer image. */
function createSequences() {
  const last = new Map<string, Promise<void>>();
  return async <T>(name: string, task: () => Promise<T>): Promise<T> => {
    const mine = (last.get(name) ?? Promise.resolve()).then(task);
    const settled = mine.then(
      () => {},
      () => {},
    );
    last.set(name, settled);
    try {
      return await mine;
    } finally {
      if (last.get(name) === settled) {
        last.delete(name);
      }
    }
  };
}

/** An image as it is in the folder. */
interface KnownImage {
  /** Bytes. */
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly mtimeMs: number;
}

/** Undefined if there is no such file, or it is none: links may lead out of the folder. */
async function imageIn(directory: string, fileName: string): Promise<KnownImage | undefined> {
  // One that another process removes meanwhile is none.
  const file = await lstat(join(directory, fileName)).catch(() => undefined);
  return file?.isFile() ? { size: file.size, mtimeMs: file.mtimeMs } : undefined;
}

/** Time after which a temporary file is of a crash and not of a write that another process has begun, in milliseconds. */
const draftMs = 3_600_000;

/** List the images of earlier runs and other processes, oldest first. Removes temporary files of a crash; ignores other files. */
async function imagesIn(directory: string) {
  const found: (KnownImage & { readonly fileName: string })[] = [];
  for (const fileName of await readdir(directory)) {
    const file = isDraft(fileName) || imageFileName.test(fileName) ? await imageIn(directory, fileName) : undefined;
    if (file !== undefined && !isDraft(fileName)) {
      found.push({ fileName, ...file });
    } else if (file !== undefined && Date.now() - file.mtimeMs > draftMs) {
      await rm(join(directory, fileName), { force: true });
    }
  }
  return found.sort((a, b) => a.mtimeMs - b.mtimeMs);
}
