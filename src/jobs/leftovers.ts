import type { JobFiles } from "./job-files.js";
import type { JobStore } from "./job-store.js";

/**
 * Deletes the files of this database's jobs that do not exist, such as of a call that was killed in mid-way.
 *
 * @param before only files that have not changed since, in milliseconds since 1970: a newer one may be of a job that is being created.
 */
export async function deleteLeftovers(
  files: Pick<JobFiles, "unchangedSince" | "delete">,
  store: Pick<JobStore, "existing">,
  before: number,
): Promise<void> {
  const old = await files.unchangedSince(before);
  const known = await store.existing(old);
  await Promise.all(old.filter((id) => !known.has(id)).map((id) => files.delete(id)));
}
