import { access, mkdir, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Meter } from "@opentelemetry/api";
import { contentTypeOf, formatOfFileName } from "../image/image-format.js";
import { imageFileName } from "../image/image-store.js";
import { createStoreFailureCounter } from "../image/store-failures.js";
import { readStoredFile, storeError, writeAtomically } from "../image/stored-files.js";
import { type NodeRequest, type NodeResponse, respondPlain } from "../mesh/port/node-handler.js";

/** Images of jobs, to be read: those of all databases that store them here. */
export interface JobFolder {
  /** Whether the store serves the images by URLs of its own, so that the pipeline must not. @default false */
  readonly hasOwnUrls?: boolean | undefined;
  /** Returns a file of a job; undefined if it is missing. */
  get(id: string, fileName: string): Promise<Uint8Array | undefined>;
  /** Returns the store of one database. */
  of(databaseId: string): JobFiles;
}

/** Images of a database's jobs: what they start from, and their results. They stay until the job is deleted, and no two jobs share one. */
export interface JobFiles {
  /** Makes the place of a job's files, which a caller can do before it has one. @throws ImageStoreError if there is no space. */
  open(id: string): Promise<JobFileWriter>;
  /** Returns a file of a job; undefined if it is missing. */
  get(id: string, fileName: string): Promise<Uint8Array | undefined>;
  /** Removes all files of a job. */
  delete(id: string): Promise<void>;
  /**
   * Ids of the jobs whose folders have not changed since a time, in milliseconds since 1970. Of this database alone: it does not know which
   * jobs of another one exist.
   */
  unchangedSince(time: number): Promise<readonly string[]>;
  /** URL of a job's file for callers who reach the pipeline under `baseUrl`. */
  urlOf(id: string, fileName: string, baseUrl: string): Promise<string>;
}

/** Stores a file of a job. @throws ImageStoreError if there is no space; nothing is stored then. */
export type JobFileWriter = (fileName: string, bytes: Uint8Array) => Promise<void>;

/** Count the failed writes of a store. */
export function countWrites(files: JobFiles, meter: Meter): JobFiles {
  const counted = createStoreFailureCounter(meter);
  return {
    ...files,
    async open(id) {
      const write = await counted(() => files.open(id));
      return (fileName, bytes) => counted(() => write(fileName, bytes));
    },
  };
}

/** File of the image that a job starts from. */
export const initImageFile = "00000000000000000000000000000000.init";

const idPattern = /^[0-9a-f]{32}$/;
const urlPrefix = "/images/jobs/";

/** Empty file in the folder of a job that says whose it is. Folders without one are read, and never swept. */
function markOf(databaseId: string): string {
  return `database-${databaseId}`;
}

/** URL of a job's file for callers who reach the pipeline under `baseUrl`. */
export function jobImageUrl(id: string, fileName: string, baseUrl: string): string {
  return `${baseUrl.replace(/\/+$/, "")}${urlPrefix}${id}/${fileName}`;
}

/** Creates the store in the folder `jobs` of an image folder. */
export async function createJobFolder(imageFolder: string): Promise<JobFolder> {
  const root = join(imageFolder, "jobs");
  await mkdir(root, { recursive: true });
  const folderOf = (id: string): string => {
    if (!idPattern.test(id)) {
      throw new Error("not the id of a job");
    }
    return join(root, id);
  };
  const get = (id: string, fileName: string) => readStoredFile(join(folderOf(id), fileName));
  return {
    get,
    of: (databaseId) => ({
      async open(id) {
        const folder = folderOf(id);
        try {
          await mkdir(folder, { recursive: true });
          // First, so that no crash leaves a file that no database sweeps.
          await writeFile(join(folder, markOf(databaseId)), "");
        } catch (error) {
          throw storeError(error, folder);
        }
        return async (fileName, bytes) => {
          await writeAtomically(folder, fileName, bytes);
        };
      },
      get,
      // Tried again where a running job writes its image meanwhile.
      delete: (id) => rm(folderOf(id), { recursive: true, force: true, maxRetries: 5, retryDelay: 20 }),
      async unchangedSince(time) {
        const ids = (await readdir(root)).filter((name) => idPattern.test(name));
        const isOld = await Promise.all(
          ids.map((id) =>
            Promise.all([stat(join(root, id)), access(join(root, id, markOf(databaseId)))]).then(
              ([{ mtimeMs }]) => mtimeMs < time,
              // One of another database, or that another process deletes meanwhile.
              () => false,
            ),
          ),
        );
        return ids.filter((_id, index) => isOld[index]);
      },
      urlOf: async (id, fileName, baseUrl) => jobImageUrl(id, fileName, baseUrl),
    }),
  };
}

/**
 * Creates the handler of `GET` and `HEAD` `/images/jobs/<id>/<file name>`. Returns false for other paths. An id of 128 random bits is what a
 * reader has to know.
 */
export function createJobImageRoute(folder: JobFolder): (request: NodeRequest, response: NodeResponse) => boolean {
  return (request, response) => {
    const path = (request.url ?? "").split("?", 1)[0] ?? "";
    if (!path.startsWith(urlPrefix)) {
      return false;
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      respondPlain(response, 405, "use GET", { allow: "GET, HEAD" });
      return true;
    }
    const [id = "", fileName = "", ...more] = path.slice(urlPrefix.length).split("/");
    const isImage = more.length === 0 && idPattern.test(id) && imageFileName.test(fileName);
    const format = isImage ? formatOfFileName(fileName) : undefined;
    if (format === undefined) {
      respondPlain(response, 404, "no such image");
      return true;
    }
    folder.get(id, fileName).then(
      (bytes) => {
        if (bytes === undefined) {
          respondPlain(response, 404, "no such image");
          return;
        }
        response.writeHead(200, {
          "content-type": contentTypeOf(format),
          "content-length": String(bytes.length),
          // A deleted job's image must be gone, so shared caches must not keep it.
          "cache-control": "private, max-age=3600, immutable",
          "content-security-policy": "default-src 'none'; sandbox",
          "x-content-type-options": "nosniff",
        });
        response.end(request.method === "GET" ? bytes : new Uint8Array());
      },
      () => respondPlain(response, 500, "internal error"),
    );
    return true;
  };
}
