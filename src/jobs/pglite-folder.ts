import { access, mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { PGlite } from "@electric-sql/pglite";

/** The folder of an embedded database cannot be used. Its message says why, and what to do. */
export class JobFolderError extends Error {
  override readonly name = "JobFolderError";
}

const databaseName = "database";
const draftName = "database.new";

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
