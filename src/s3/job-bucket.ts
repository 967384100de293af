import { contentTypeOf, formatOfFileName } from "../image/image-format.js";
import type { JobFolder } from "../jobs/job-files.js";
import type { Bucket } from "./bucket.js";

/**
 * Creates the store of jobs' images in a bucket: objects `jobs/<id>/<file name>`. Empty objects `databases/<database>/<id>` say whose jobs have
 * any, so that a database finds its own without a list of all.
 */
export function createJobBucket(bucket: Bucket): JobFolder {
  const keyOf = (id: string, fileName: string) => `jobs/${id}/${fileName}`;
  const get = (id: string, fileName: string) => bucket.get(keyOf(id, fileName));
  return {
    // A path of the pipeline would outlive the expiry of the URLs.
    hasOwnUrls: true,
    get,
    of(databaseId) {
      const marks = `databases/${databaseId}/`;
      return {
        async open(id) {
          const empty = { bytes: new Uint8Array(), contentType: "application/octet-stream", cacheControl: "no-store" };
          // First, so that no crash leaves an object that no database sweeps.
          await bucket.put(`${marks}${id}`, empty);
          return async (fileName, bytes) => {
            const format = formatOfFileName(fileName);
            await bucket.put(keyOf(id, fileName), {
              bytes,
              contentType: format === undefined ? "application/octet-stream" : contentTypeOf(format),
              // A deleted job's image must be gone, so shared caches must not keep it.
              cacheControl: "private, max-age=3600, immutable",
            });
          };
        },
        get,
        async delete(id) {
          const objects = await bucket.list(keyOf(id, ""));
          await Promise.all(objects.map(({ key }) => bucket.delete(key)));
          await bucket.delete(`${marks}${id}`);
        },
        async unchangedSince(time) {
          const marked = await bucket.list(marks);
          return marked.filter(({ changedAt }) => changedAt < time).map(({ key }) => key.slice(marks.length));
        },
        urlOf: (id, fileName) => bucket.presign(keyOf(id, fileName)),
      };
    },
  };
}
