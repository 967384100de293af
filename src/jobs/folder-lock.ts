import { closeSync, constants, ftruncateSync, openSync, writeSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { JobFolderError } from "./pglite-folder.js";

const lockName = "lock";

/** The locked byte. Behind the content, because Windows lets nobody read what is locked. */
const lockedAt = 2 ** 30;

/**
 * Takes a folder for this process alone, and creates it if missing: two processes would destroy its database. Returns a function that frees
 * it.
 *
 * The lock is one of the operating system, held by an open file (`F_OFD_SETLK` on Linux, `flock` on macOS, `LockFileEx` on Windows). The system
 * ends it with the process, however that ends, and knows it in all containers that share the folder, and on file servers with locks. A file
 * with the holder's process id, as PostgreSQL's postmaster.pid, says neither: containers have the same ids, and after a reboot an id is
 * another process's. The content of our file is for messages only, and the file stays, because a deleted one could be locked twice.
 *
 * @throws JobFolderError if another process holds it, or if the platform or the file system has no such lock.
 */
export async function lockJobFolder(folder: string): Promise<() => void> {
  await mkdir(folder, { recursive: true });
  const path = join(folder, lockName);
  const tryLock = await loadLock(folder);
  // No FileHandle: one that is forgotten is closed by the garbage collector, and the lock with it.
  const file = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o644);
  try {
    if (!lockFile(tryLock, file, folder)) {
      throw new JobFolderError(
        `${await holderOf(path)} has the jobs' folder ${folder} open. Stop it, or name another folder with --jobs`,
      );
    }
    ftruncateSync(file);
    writeSync(file, `process ${process.pid} on ${hostname()}\n`, 0);
  } catch (error) {
    closeSync(file);
    throw error;
  }
  let isHeld = true;
  return () => {
    // Once: another file may have the number afterwards.
    if (isHeld) {
      isHeld = false;
      ftruncateSync(file);
      closeSync(file);
    }
  };
}

type TryLock = (file: number, offset: number, length: number) => boolean;

async function loadLock(folder: string): Promise<TryLock> {
  try {
    // Loaded here: its machine code does not exist for every platform, and most pipelines have no folder of jobs.
    const { tryLock } = await import("fs-native-extensions");
    return tryLock;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new JobFolderError(
      `the jobs' folder ${folder} cannot be locked, because fs-native-extensions does not load on ${process.platform} ${process.arch}: ${reason}. Install it, or use PostgreSQL with --jobs postgres://…`,
      { cause: error },
    );
  }
}

function lockFile(tryLock: TryLock, file: number, folder: string): boolean {
  try {
    return tryLock(file, lockedAt, 1);
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? ` (${error.code})` : "";
    throw new JobFolderError(
      `the file system of the jobs' folder ${folder} has no locks${reason}: name a folder on another one with --jobs, or use PostgreSQL`,
      { cause: error },
    );
  }
}

/** Who holds the lock, as the holder has written it. */
async function holderOf(path: string): Promise<string> {
  const text = await readFile(path, "utf8").catch(() => "");
  return /^process \d+ on [\w.-]+(?=\n$)/.exec(text)?.[0] ?? "another process";
}
