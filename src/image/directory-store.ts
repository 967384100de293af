import { randomUUID } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { LRUCache } from "lru-cache";
import { type EncodedImage, formatOfFileName } from "./image-format.js";
import { type ImageStore, imageFileName, imageFileNameOf } from "./image-store.js";

/** How much a directory keeps, and for how long. */
export interface DirectoryStoreOptions {
  /** Folder of the pictures; made when missing. One process owns it. */
  readonly directory: string;
  /** Bytes in all; the picture that was asked for least recently goes first. @default 1 GiB */
  readonly maxBytes?: number;
  /** Milliseconds that a picture is kept after it was last put. @default 24 hours */
  readonly maxAgeMs?: number;
  /** Told when a picture that had to go could not be removed. */
  readonly onRemoveError?: (error: unknown, fileName: string) => void;
}

/** 1 GiB. */
export const defaultMaxBytes = 2 ** 30;
/** A day. */
export const defaultMaxAgeMs = 24 * 60 * 60 * 1000;

/**
 * A store in a folder, bounded in bytes and in age. A picture is written beside its place and then moved into it, so a reader
 * never sees half of one. Pictures of an earlier run are found again.
 */
export async function createDirectoryStore(options: DirectoryStoreOptions): Promise<ImageStore> {
  const { directory, maxBytes = defaultMaxBytes, maxAgeMs = defaultMaxAgeMs, onRemoveError } = options;
  for (const [name, value] of Object.entries({ maxBytes, maxAgeMs })) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new Error(`${name} must be a whole number of at least 1, got ${value}`);
    }
  }
  await mkdir(directory, { recursive: true });

  const remove = (fileName: string): void => {
    rm(join(directory, fileName), { force: true }).catch((error: unknown) => onRemoveError?.(error, fileName));
  };
  const index = new LRUCache<string, { readonly size: number }>({
    maxSize: maxBytes,
    sizeCalculation: ({ size }) => size,
    ttl: maxAgeMs,
    ttlAutopurge: true,
    noDisposeOnSet: true,
    dispose: (_value, fileName) => remove(fileName),
  });

  for (const { fileName, size, ageMs } of await picturesIn(directory)) {
    if (ageMs >= maxAgeMs || size > maxBytes) {
      remove(fileName);
    } else {
      index.set(fileName, { size }, { ttl: maxAgeMs - ageMs });
    }
  }

  return {
    async put(image: EncodedImage): Promise<string> {
      const { bytes } = image;
      if (bytes.length > maxBytes) {
        throw new Error(`a picture of ${bytes.length} bytes does not fit into a store of ${maxBytes}`);
      }
      const fileName = imageFileNameOf(image);
      await writeWhole(join(directory, fileName), bytes);
      index.set(fileName, { size: bytes.length });
      return fileName;
    },

    async get(fileName: string) {
      const format = formatOfFileName(fileName);
      if (format === undefined || !imageFileName.test(fileName) || index.get(fileName) === undefined) {
        return undefined;
      }
      try {
        return { bytes: await readFile(join(directory, fileName)), format };
      } catch (error) {
        if (isNotFound(error)) {
          return undefined;
        }
        throw error;
      }
    },
  };
}

/** Writes to a name of its own first: a crash or a full disk leaves the place itself as it was. */
async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const draft = `${path}.${randomUUID()}.tmp`;
  try {
    const file = await open(draft, "wx");
    try {
      await file.writeFile(bytes);
    } finally {
      await file.close();
    }
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}

/** Pictures of an earlier run, oldest first. Drafts that a crash left are removed; files of other names are left alone. */
async function picturesIn(directory: string) {
  const found: { fileName: string; size: number; ageMs: number }[] = [];
  for (const fileName of await readdir(directory)) {
    if (/^[0-9a-f]{32}\.\w+\.[0-9a-f-]{36}\.tmp$/.test(fileName)) {
      await rm(join(directory, fileName), { force: true });
    } else if (imageFileName.test(fileName)) {
      const { size, mtimeMs } = await stat(join(directory, fileName));
      found.push({ fileName, size, ageMs: Math.max(0, Date.now() - mtimeMs) });
    }
  }
  return found.sort((a, b) => b.ageMs - a.ageMs);
}

function isNotFound(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
