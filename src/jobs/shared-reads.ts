import { LRUCache } from "lru-cache";
import type { JobFiles } from "./job-files.js";

/** Memory of images that were read for one caller and may be asked for by others, in bytes. */
const maxBytes = 64 * 1024 * 1024;
/** Time that they stay, in milliseconds: all watchers of a job want its image when it ends. */
const keptMs = 2_000;

/**
 * Reads files so that callers who ask for one at the same time share a read. An id's files are not changed, and whoever may read a job is
 * checked before.
 */
export function shareReads({ get }: Pick<JobFiles, "get">): JobFiles["get"] {
  const read = new LRUCache<string, Uint8Array, { readonly id: string; readonly fileName: string }>({
    maxSize: maxBytes,
    sizeCalculation: (bytes) => Math.max(1, bytes.length),
    ttl: keptMs,
    // Images of deleted jobs do not stay in memory.
    ttlAutopurge: true,
    fetchMethod: (_key, _stale, { context }) => get(context.id, context.fileName),
  });
  return (id, fileName) => read.fetch(`${id}/${fileName}`, { context: { id, fileName } });
}
