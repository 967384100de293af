import { LRUCache } from "lru-cache";
import { initImageFile, type JobFiles } from "./job-files.js";

/** Memory of images that were stored or read and may be asked for by others, in bytes. */
const maxBytes = 64 * 1024 * 1024;
/** Time that they stay, in milliseconds: all watchers of a job want its image when it ends. */
const keptMs = 2_000;

/**
 * Files that callers who ask for one at the same time read once, or not at all if it was stored here just before. An id's files are not
 * changed, and whoever may read a job is checked before.
 */
export function shareReads(files: JobFiles): JobFiles {
  const read = new LRUCache<string, Uint8Array, { readonly id: string; readonly fileName: string }>({
    maxSize: maxBytes,
    sizeCalculation: (bytes) => Math.max(1, bytes.length),
    ttl: keptMs,
    // Images of deleted jobs do not stay in memory.
    ttlAutopurge: true,
    fetchMethod: (_key, _stale, { context }) => files.get(context.id, context.fileName),
  });
  const keyOf = (id: string, fileName: string) => `${id}/${fileName}`;
  return {
    ...files,
    async open(id) {
      const write = await files.open(id);
      return async (fileName, bytes) => {
        await write(fileName, bytes);
        if (fileName !== initImageFile) {
          read.set(keyOf(id, fileName), bytes);
        }
      };
    },
    async get(id, fileName) {
      // An attempt alone reads what its job starts from.
      return fileName === initImageFile
        ? files.get(id, fileName)
        : read.fetch(keyOf(id, fileName), { context: { id, fileName } });
    },
    async delete(id) {
      for (const key of read.keys()) {
        if (key.startsWith(keyOf(id, ""))) {
          read.delete(key);
        }
      }
      await files.delete(id);
    },
  };
}
