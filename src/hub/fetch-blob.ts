import { rename, rm } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { fileHasHash } from "./blob-hash.js";
import type { HubClient, RemoteFile } from "./hub-client.js";
import { HubError } from "./hub-error.js";
import { fileExists } from "./model-cache.js";
import { claimPartialFile, type PartialFile } from "./partial-file.js";

/** How patient a download is. */
export interface Patience {
  /** Tries one after the other that bring nothing. */
  readonly attempts: number;
  /** Wait after the first of them; it doubles each time. */
  readonly retryMs: number;
  /** How long another's unfinished file may stay untouched before it counts as left behind. */
  readonly staleMs: number;
}

export interface FetchBlobOptions {
  /** What the file is called in errors: the model's id and its path. */
  readonly subject: string;
  /** Path of the blob in the cache. */
  readonly blob: string;
  readonly client: HubClient;
  readonly commit: string;
  readonly file: RemoteFile;
  readonly patience: Patience;
  readonly signal: AbortSignal | undefined;
  /** Told how many bytes are there, whenever there are more. */
  readonly onBytes: (bytes: number) => void;
}

/**
 * Sees to it that a blob is in the cache. What a connection, or a process, that broke off has left is used; the blob appears under its
 * name only when all of it is on disk and has its hash.
 *
 * @throws HubError; the file system's errors as they are.
 */
export async function fetchBlob(options: FetchBlobOptions): Promise<void> {
  const { subject, blob, file, patience, signal } = options;
  while (!(await fileExists(blob))) {
    const partial = await claimPartialFile(blob, { signal, staleMs: patience.staleMs });
    if (partial !== undefined) {
      try {
        await fill(partial, options);
        await partial.handle.datasync();
        if (!(await fileHasHash(partial.path, file.hash, signal))) {
          await rm(partial.path, { force: true });
          const advice = "they are thrown away; start again, and suspect a proxy if it happens again";
          throw new HubError("corrupt", subject, `its bytes do not have the hash ${file.hash.hex}; ${advice}`);
        }
        await rename(partial.path, blob);
      } finally {
        await partial.release();
      }
    }
  }
  options.onBytes(file.size);
}

/** Appends what is lacking, over as many connections as it takes. */
async function fill({ handle, size: present }: PartialFile, options: FetchBlobOptions): Promise<void> {
  const { client, commit, file, patience, signal, onBytes } = options;
  let size = present;
  for (let failures = 0; size < file.size; ) {
    onBytes(size);
    try {
      for await (const chunk of client.read(commit, file, size)) {
        await handle.write(chunk, 0, chunk.length, size);
        size += chunk.length;
        failures = 0;
        onBytes(size);
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof HubError && error.kind === "unresumable" && size > 0) {
        size = 0;
      } else if (!(error instanceof HubError) || error.kind !== "unreachable" || ++failures >= patience.attempts) {
        throw error;
      } else {
        await delay(patience.retryMs * 2 ** (failures - 1), undefined, { signal });
      }
    }
  }
  if (size > file.size) {
    await handle.truncate(file.size);
  }
}
