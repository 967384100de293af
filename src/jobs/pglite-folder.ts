import { access, link, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { PGlite } from "@electric-sql/pglite";

/** The folder of an embedded database cannot be used. Its message says why, and what to do. */
export class JobFolderError extends Error {
  override readonly name = "JobFolderError";
}

/** The database's folder, and the file that one process holds. */
const databaseName = "database";
const draftName = "database.new";
const lockName = "lock";

/**
 * Opens the embedded database of a folder that is locked by this process.
 *
 * A new database is made in a temporary folder and renamed, because one whose creation was interrupted does not open.
 *
 * @throws JobFolderError if the database is damaged.
 */
export async function openFolderDatabase(folder: string): Promise<PGlite> {
  // Loaded here: it takes hundreds of megabytes.
  const { PGlite: Database } = await import("@electric-sql/pglite");
  const path = join(folder, databaseName);
  if (!(await hasFolderDatabase(folder))) {
    await mkdir(folder, { recursive: true });
    const draft = join(folder, draftName);
    await rm(draft, { recursive: true, force: true });
    const created = await Database.create(draft);
    await created.close();
    await rename(draft, path);
  }
  try {
    // Without this file, PGlite makes an empty database in the place of the damaged one.
    await access(join(path, "PG_VERSION"));
    return await Database.create(path);
  } catch (error) {
    throw new JobFolderError(
      `the jobs' database in ${path} is damaged and does not open. Move the folder away to start with an empty one`,
      { cause: error },
    );
  }
}

/** Whether a folder has a database. */
export async function hasFolderDatabase(folder: string): Promise<boolean> {
  const names = await readdir(folder).catch((): string[] => []);
  return names.includes(databaseName);
}

/**
 * Takes a folder for this process alone, and creates it if missing: two processes would destroy its database. Returns a function that frees
 * it.
 *
 * As PostgreSQL's postmaster.pid, the lock is a file with the holder's process id. That of a process that has ended is replaced. An id that
 * is our own is from a container before this one.
 *
 * @throws JobFolderError if another process holds it.
 */
export async function lockJobFolder(folder: string): Promise<() => Promise<void>> {
  await mkdir(folder, { recursive: true });
  const path = join(folder, lockName);
  const draft = `${path}.${process.pid}`;
  for (let tries = 0; tries < 3; tries++) {
    // A link appears with its content, so that nobody reads a lock without an id.
    await writeFile(draft, `${process.pid}\n`);
    try {
      await link(draft, path);
      return () => rm(path, { force: true });
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) {
        throw error;
      }
    } finally {
      await rm(draft, { force: true });
    }
    const holder = Number((await readFile(path, "utf8").catch(() => "")).trim());
    if (holder > 0 && holder !== process.pid && isRunning(holder)) {
      throw new JobFolderError(
        `process ${holder} has the jobs' folder ${folder} open. Stop it, or name another folder with --jobs. If that process is not throughline, delete ${path}`,
      );
    }
    await removeStaleLock(path, holder);
  }
  throw new JobFolderError(`the lock ${path} cannot be taken: another process takes it again and again`);
}

/** Removes the lock of a process that has ended; not that of one which has replaced it meanwhile. */
async function removeStaleLock(path: string, holder: number): Promise<void> {
  const aside = `${path}.stale.${process.pid}`;
  try {
    await rename(path, aside);
  } catch {
    // Another process was faster.
    return;
  }
  if (Number((await readFile(aside, "utf8")).trim()) !== holder) {
    await link(aside, path).catch(() => {});
  }
  await rm(aside, { force: true });
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // A process of another user runs too.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
