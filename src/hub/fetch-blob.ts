import { randomUUID } from "node:crypto";
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileHasHash, type HubClient, type RemoteFile } from "./hub-client.js";
import { HubError } from "./hub-fetch.js";
import { fileExists } from "./model-cache.js";

/** How patient a download is. */
export interface HubTimeouts {
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
  readonly timeouts: HubTimeouts;
  readonly signal: AbortSignal | undefined;
  /** Called with the number of stored bytes whenever it grows. */
  readonly onBytes: (bytes: number) => void;
}

/**
 * Sees to it that a blob is in the cache. What a connection, or a process, that broke off has left is used; the blob appears under its
 * name only when all of it is on disk and has its hash.
 *
 * @throws HubError; the file system's errors as they are.
 */
export async function fetchBlob(options: FetchBlobOptions): Promise<void> {
  const { subject, blob, file, timeouts, signal } = options;
  while (!(await fileExists(blob))) {
    const partial = await claimPartialFile(blob, { signal, staleMs: timeouts.staleMs });
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
  const { client, commit, file, timeouts, signal, onBytes } = options;
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
      } else if (!(error instanceof HubError) || error.kind !== "unreachable" || ++failures >= timeouts.attempts) {
        throw error;
      } else {
        await delay(timeouts.retryMs * 2 ** (failures - 1), undefined, { signal });
      }
    }
  }
  if (size > file.size) {
    await handle.truncate(file.size);
  }
}

/** A blob that is still being fetched. */
export interface PartialFile {
  readonly path: string;
  /** Bytes that were there already. */
  readonly size: number;
  readonly handle: FileHandle;
  /** Closes it. The file stays, so that another download can continue it. */
  release(): Promise<void>;
}

export interface ClaimOptions {
  readonly signal?: AbortSignal | undefined;
  /** Time without changes after which another process's partial file counts as abandoned. */
  readonly staleMs: number;
}

/** In how many looks a partial file is found to be left behind. */
const looks = 20;

/**
 * Takes the place of the one who fetches a blob, on this machine and on others that share the folder; undefined when another was at it
 * and is no more, so that the blob may be there now.
 *
 * Everyone writes to a file of a name of its own, and touches it while it lives, so no process can corrupt another's bytes. Who finds
 * another's waits for it; one that is not touched any more is taken over under a new name, which only one can succeed in, and its bytes
 * are used. Of those who begin in the same moment, one who has seen itself alone goes on, because all who come after it see its file;
 * the others wait for a random moment.
 */
export async function claimPartialFile(blob: string, options: ClaimOptions): Promise<PartialFile | undefined> {
  await mkdir(dirname(blob), { recursive: true });
  const mine = `${blob}.${randomUUID()}.part`;
  const [other] = await partialFiles(blob);
  if (other !== undefined) {
    if ((await waitFor(other, options)) === "gone" || !(await moves(other, mine))) {
      return undefined;
    }
    return hold(mine, await open(mine, "r+"), options);
  }
  const handle = await open(mine, "wx+");
  const alone = (await partialFiles(blob)).length === 1;
  // Another may have finished since the caller looked: its file has become the blob before this one was alone.
  if (alone && !(await fileExists(blob))) {
    return hold(mine, handle, options);
  }
  await handle.close();
  await rm(mine, { force: true });
  if (!alone) {
    await delay((Math.random() * options.staleMs) / 20, undefined, { signal: options.signal });
  }
  return undefined;
}

async function hold(path: string, handle: FileHandle, { staleMs }: ClaimOptions): Promise<PartialFile> {
  const touch = async (): Promise<void> => {
    const now = new Date();
    await handle.utimes(now, now).catch(() => {});
  };
  await touch();
  let touching: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    touching = touch();
  }, staleMs / 5).unref();
  return {
    path,
    handle,
    size: (await handle.stat()).size,
    async release() {
      clearInterval(timer);
      await touching;
      await handle.close();
    },
  };
}

async function partialFiles(blob: string): Promise<string[]> {
  const start = `${basename(blob)}.`;
  const names = await readdir(dirname(blob));
  const parts = names.filter((name) => name.startsWith(start) && name.endsWith(".part"));
  return parts.map((name) => join(dirname(blob), name));
}

/**
 * Waits until a partial file is gone, or has not changed for long enough. Only its changes count, because clocks of machines differ; and
 * checks count instead of time, because a process may have been suspended.
 */
async function waitFor(path: string, { staleMs, signal }: ClaimOptions): Promise<"gone" | "stale"> {
  let touched: number | undefined;
  for (let unchanged = 0; unchanged < looks; unchanged++) {
    const found = await stat(path).catch(() => undefined);
    if (found === undefined) {
      return "gone";
    }
    if (found.mtimeMs !== touched) {
      touched = found.mtimeMs;
      unchanged = 0;
    }
    await delay(staleMs / looks, undefined, { signal });
  }
  return "stale";
}

async function moves(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch {
    return false;
  }
}
