import { randomUUID } from "node:crypto";
import { constants, mkdir, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { ImageStoreError } from "./image-store-error.js";

/** Read a file; undefined if missing. Links are not followed, because they may leave the folder. */
export async function readStoredFile(path: string): Promise<Uint8Array | undefined> {
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

/**
 * Write to a temporary file and rename it. A crash or a full disk leaves the target unchanged.
 *
 * @returns the file's time of modification, in milliseconds since 1970.
 */
export async function writeAtomically(directory: string, fileName: string, bytes: Uint8Array): Promise<number> {
  const draft = join(directory, `${fileName}.${randomUUID()}.tmp`);
  try {
    const file = await openDraft(directory, draft);
    let mtimeMs: number;
    try {
      await file.writeFile(bytes);
      // Otherwise a power loss can leave an empty file.
      await file.sync();
      ({ mtimeMs } = await file.stat());
    } finally {
      await file.close();
    }
    await rename(draft, join(directory, fileName));
    return mtimeMs;
  } catch (error) {
    await rm(draft, { force: true });
    throw storeError(error, directory);
  }
}

/** The error of a write: ImageStoreError where the folder's disk is full. */
export function storeError(error: unknown, directory: string): unknown {
  const isFull = ["ENOSPC", "EDQUOT"].includes(String(codeOf(error)));
  return isFull ? new ImageStoreError("full", `no space is left in ${directory}`, { cause: error }) : error;
}

async function openDraft(directory: string, draft: string) {
  try {
    return await open(draft, "wx");
  } catch (error) {
    if (!isNotFound(error)) {
      throw error;
    }
    // The folder was removed; create it again.
    await mkdir(directory, { recursive: true });
    return open(draft, "wx");
  }
}

/** Whether a file is a temporary one of {@link writeAtomically}, which a crash can leave. */
export function isDraft(fileName: string): boolean {
  return /^[0-9a-f]{32}\.\w+\.[0-9a-f-]{36}\.tmp$/.test(fileName);
}

function isNotFound(error: unknown): boolean {
  return codeOf(error) === "ENOENT";
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
