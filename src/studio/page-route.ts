import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, gzip } from "node:zlib";
import { type NodeRequest, type NodeResponse, respondPlain } from "../mesh/port/node-handler.js";

/** The page may load its own files, call its own server, read images of one more origin, and show images from any host. */
const contentSecurityPolicy = (imageOrigin: string | undefined): string =>
  [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data: blob: http: https:",
    `connect-src 'self'${imageOrigin === undefined ? "" : ` ${imageOrigin}`}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");

const missing = "the studio's page is not built: npm run build makes it, and then the pipeline has to be started again";

/**
 * Serves the files of a folder, which are read once, now: `GET` and `HEAD` of `/`, which is `index.html`, and of each file's name. Only paths
 * of these files are answered, so no path leaves the folder. Without the folder, `/` returns how to build it.
 *
 * The route returns false for other paths, so that another one may take them.
 *
 * @param imageOrigin origin besides its own from which the page may read images. @default none
 */
export async function createPageRoute(
  folder: string,
  imageOrigin?: string,
): Promise<(request: NodeRequest, response: NodeResponse) => boolean> {
  const files = await readPageFiles(folder);
  const securityPolicy = contentSecurityPolicy(imageOrigin);
  return (request, response) => {
    const path = request.url?.split("?", 1)[0] ?? "";
    const file = files?.get(path);
    if (file === undefined && !(path === "/" && files === undefined)) {
      return false;
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      // An unread body would block the connection for the next request.
      request.resume();
      respondPlain(response, 405, "the page is asked for by GET", { allow: "GET, HEAD" });
    } else if (file === undefined) {
      respondPlain(response, 404, missing);
    } else {
      // It cannot fail: the bytes are in memory.
      void answer(file, securityPolicy, request, response);
    }
    return true;
  };
}

async function answer(
  file: PageFile,
  securityPolicy: string,
  { method, headers }: NodeRequest,
  response: NodeResponse,
): Promise<void> {
  const { contentType, etag } = file;
  const encoding = pageEncodings.find((each) => accepts(headers["accept-encoding"], each));
  const isKnown = headers["if-none-match"]?.split(",").some((each) => each.trim() === etag);
  const fields = {
    etag,
    // Revalidated at each load: a file keeps its name when its content changes.
    "cache-control": "no-cache",
    vary: "origin, accept-encoding",
    "content-security-policy": securityPolicy,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
  };
  if (isKnown) {
    write(response, 304, fields);
    response.end();
    return;
  }
  const bytes = encoding === undefined ? file.bytes : await file.compressed(encoding);
  write(response, 200, {
    ...fields,
    "content-type": contentType,
    "content-length": String(bytes.length),
    ...(encoding !== undefined && { "content-encoding": encoding }),
  });
  response.end(method === "GET" ? bytes : "");
}

function write(response: NodeResponse, status: number, fields: Readonly<Record<string, string>>): void {
  response.statusCode = status;
  for (const [name, value] of Object.entries(fields)) {
    response.setHeader(name, value);
  }
}

/** Whether an `accept-encoding` names an encoding and does not reject it by `q=0`. */
function accepts(header: string | string[] | undefined, encoding: string): boolean {
  return String(header ?? "")
    .split(",")
    .some((each) => {
      const [name = "", ...parameters] = each.split(";").map((part) => part.trim().toLowerCase());
      return name === encoding && !parameters.some((parameter) => /^q=0(?:\.0*)?$/.test(parameter));
    });
}

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
