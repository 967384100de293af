import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, gzip } from "node:zlib";

/** A file of a page, in memory. */
export interface PageFile {
  readonly contentType: string;
  /** Of its content; weak, because the compressed forms have the same. */
  readonly etag: string;
  readonly bytes: Uint8Array;
  /** Compresses it the first time, and remembers. */
  compressed(encoding: PageEncoding): Promise<Uint8Array>;
}

/** How a file can be compressed, the better one first. */
export const pageEncodings = ["br", "gzip"] as const;

/** One of {@link pageEncodings}. */
export type PageEncoding = (typeof pageEncodings)[number];

const contentTypes: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".json": "application/json",
  ".png": "image/png",
  ".woff2": "font/woff2",
};

const compressors = { br: promisify(brotliCompress), gzip: promisify(gzip) };

/**
 * Reads the files that lie in a folder itself, by path: `/` is `index.html`. Files of other types than a page's are left out.
 *
 * @returns undefined where there is no folder, or no `index.html` in it.
 */
export async function readPageFiles(folder: string): Promise<ReadonlyMap<string, PageFile> | undefined> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(ifMissing);
  const files = new Map<string, PageFile>();
  for (const { name } of entries?.filter((entry) => entry.isFile()) ?? []) {
    const contentType = contentTypes[extname(name)];
    if (contentType !== undefined) {
      files.set(`/${name}`, pageFile(contentType, await readFile(join(folder, name))));
    }
  }
  const index = files.get("/index.html");
  return index && files.set("/", index);
}

function pageFile(contentType: string, bytes: Uint8Array): PageFile {
  const done = new Map<PageEncoding, Promise<Uint8Array>>();
  return {
    contentType,
    etag: `W/"${createHash("sha256").update(bytes).digest("base64url").slice(0, 22)}"`,
    bytes,
    compressed(encoding) {
      const compressing = done.get(encoding) ?? compressors[encoding](bytes);
      done.set(encoding, compressing);
      return compressing;
    },
  };
}

function ifMissing(error: unknown): undefined {
  if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR")) {
    return undefined;
  }
  throw error;
}
