import { randomUUID } from "node:crypto";
import { constants, lstat, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { LRUCache } from "lru-cache";
import { type EncodedImage, formatOfFileName } from "./encode-image.js";
import { type ImageStore, imageFileName, imageFileNameOf } from "./image-store.js";
import { StoreFullError } from "./store-full-error.js";

/** How much a directory keeps, and for how long. */
export interface DirectoryStoreOptions {
  /** Folder of the images; made when missing. One process owns it. */
  readonly directory: string;
  /** Bytes in all; the image that was asked for least recently goes first. @default 1 GiB */
  readonly maxBytes?: number;
  /** Milliseconds that an image is kept after it was last put. @default 24 hours */
  readonly maxAgeMs?: number;
  /** Told when an image that had to go could not be removed. */
  readonly onRemoveError?: (error: unknown, fileName: string) => void;
}

/** 1 GiB. */
export const defaultMaxBytes = 2 ** 30;
/** A day. */
export const defaultMaxAgeMs = 24 * 60 * 60 * 1000;

/**
 * A store in a folder, bounded in bytes and in age. An image is written beside its place and then moved into it, so a reader
 * never sees half of one. Images of an earlier run are found again.
 */
export async function createDirectoryStore(options: DirectoryStoreOptions): Promise<ImageStore> {
  const { directory, maxBytes = defaultMaxBytes, maxAgeMs = defaultMaxAgeMs, onRemoveError } = options;
  for (const [name, value] of Object.entries({ maxBytes, maxAgeMs })) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new Error(`${name} must be a whole number of at least 1, got ${value}`);
    }
  }
  await mkdir(directory, { recursive: true });

  const inTurn = createTurns();
  const remove = (fileName: string): void => {
    inTurn(fileName, async () => {
      // Put again since it was to go: then it stays.
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
    // What a power loss left may be empty.
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
      await inTurn(fileName, async () => {
        await writeWhole(directory, fileName, bytes);
        index.set(fileName, { size: bytes.length });
      });
      return fileName;
    },

    async get(fileName: string) {
      const format = formatOfFileName(fileName);
      if (format === undefined || !imageFileName.test(fileName) || index.get(fileName) === undefined) {
        return undefined;
      }
      const bytes = await readImage(join(directory, fileName));
      return bytes && { bytes, format };
    },
  };
}

/** Runs tasks of the same name one after another, so that an image that goes never takes its successor along. */
function createTurns() {
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

/** The file, or undefined where there is none. A link is not followed: it may lead out of the folder. */
async function readImage(path: string): Promise<Uint8Array | undefined> {
  try {
    const file = await open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0));
    try {
      return await file.readFile();
    } finally {
      await file.close();
    }
  } catch (error) {
    if (isNotFound(error) || codeOf(error) === "ELOOP") {
      return undefined;
    }
    throw error;
  }
}

/** Writes to a name of its own first: a crash or a full disk leaves the place itself as it was. */
async function writeWhole(directory: string, fileName: string, bytes: Uint8Array): Promise<void> {
  const draft = join(directory, `${fileName}.${randomUUID()}.tmp`);
  try {
    const file = await openDraft(directory, draft);
    try {
      await file.writeFile(bytes);
      // Else a power loss can leave the name without the content.
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(draft, join(directory, fileName));
  } catch (error) {
    await rm(draft, { force: true });
    const isFull = ["ENOSPC", "EDQUOT"].includes(String(codeOf(error)));
    throw isFull ? new StoreFullError(`no space is left in ${directory}`, { cause: error }) : error;
  }
}

async function openDraft(directory: string, draft: string) {
  try {
    return await open(draft, "wx");
  } catch (error) {
    if (!isNotFound(error)) {
      throw error;
    }
    // Somebody removed the folder; a finished generation is worth making it again.
    await mkdir(directory, { recursive: true });
    return open(draft, "wx");
  }
}

/** Images of an earlier run, oldest first. Drafts that a crash left are removed; files of other names are left alone. */
async function imagesIn(directory: string) {
  const found: { fileName: string; size: number; ageMs: number }[] = [];
  for (const fileName of await readdir(directory)) {
    if (/^[0-9a-f]{32}\.\w+\.[0-9a-f-]{36}\.tmp$/.test(fileName)) {
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

function isNotFound(error: unknown): boolean {
  return codeOf(error) === "ENOENT";
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
