import { randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative, resolve, sep } from "node:path";

/**
 * The part of the Hugging Face cache that belongs to one model, in the layout of Python's huggingface_hub, which shares it:
 * `blobs/<hash>` hold the bytes, `snapshots/<commit>/<path>` are links to them, `refs/<revision>` hold commits.
 *
 * @see https://huggingface.co/docs/huggingface_hub/guides/manage-cache
 */
export interface ModelCache {
  /** Folder of a commit's files. */
  snapshot(commit: string): string;
  blob(hash: string): string;
  /** Commit that a branch or tag was at when it was fetched; undefined when it never was. */
  readRef(revision: string): Promise<string | undefined>;
  writeRef(revision: string, commit: string): Promise<void>;
  /** Puts a blob into a snapshot under its path. @throws Error where that would lie outside the snapshot. */
  link(commit: string, path: string, hash: string): Promise<void>;
}

const commitHash = /^[0-9a-f]{40}$/;

/** @param cacheFolder the folder of all models, such as `~/.cache/huggingface/hub`. */
export function createModelCache(cacheFolder: string, modelName: string): ModelCache {
  const folder = join(cacheFolder, `models--${modelName.replace("/", "--")}`);
  const snapshot = (commit: string): string => join(folder, "snapshots", commit);
  const blob = (hash: string): string => join(folder, "blobs", hash);
  return {
    snapshot,
    blob,
    async readRef(revision) {
      if (commitHash.test(revision)) {
        return revision;
      }
      try {
        const commit = (await readFile(join(folder, "refs", revision), "utf8")).trim();
        return commitHash.test(commit) ? commit : undefined;
      } catch {
        return undefined;
      }
    },
    async writeRef(revision, commit) {
      if (revision !== commit) {
        const file = join(folder, "refs", revision);
        await mkdir(dirname(file), { recursive: true });
        await replace(file, (temporary) => writeFile(temporary, commit));
      }
    },
    async link(commit, path, hash) {
      const file = join(snapshot(commit), path);
      // Callers have checked the name; this decides where it is written.
      if (!resolve(file).startsWith(resolve(snapshot(commit)) + sep)) {
        throw new Error("a file of a model would lie outside its folder");
      }
      await mkdir(dirname(file), { recursive: true });
      if (await fileExists(file)) {
        return;
      }
      try {
        // Relative, so that the cache can be moved.
        await replace(file, (temporary) => symlink(relative(dirname(file), blob(hash)), temporary));
      } catch (error) {
        // Without links, as on Windows without developer mode, the snapshot has the file itself.
        if (!(error instanceof Error && "code" in error && error.code === "EPERM")) {
          throw error;
        }
        await rename(blob(hash), file);
      }
    },
  };
}

/** Makes a file under another name and moves it to its place, so that no reader sees a part of it. */
async function replace(file: string, make: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = `${file}.${randomUUID()}`;
  try {
    await make(temporary);
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Whether there is a file, at the end of its links. */
export async function fileExists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}
