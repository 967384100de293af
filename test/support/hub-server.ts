import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after } from "node:test";

/** A request that the Hub, or its storage host, got. */
export interface HubRequest {
  readonly host: "hub" | "storage";
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

export interface HubServerOptions {
  /** Folder whose files are the repository's. */
  readonly folder: string;
  /** @default acme/tiny-xl */
  readonly name?: string;
  /** Answers in place of the server where it returns true. */
  readonly intercept?: (request: HubRequest, response: ServerResponse, body: Buffer | undefined) => boolean;
  /** Token without which the repository is hidden. */
  readonly token?: string;
  /** Sizes in the listing in place of the true ones. */
  readonly sizes?: Readonly<Record<string, number>>;
  /** Names in the listing in place of the true ones. */
  readonly names?: Readonly<Record<string, string>>;
}

/** A Hugging Face Hub of one repository on loopback. */
export interface HubServer {
  readonly url: string;
  readonly commit: string;
  /** All requests so far. */
  readonly requests: readonly HubRequest[];
  close(): Promise<void>;
}

/** Files from this size on are kept in large file storage, as on the Hub; the others are blobs of git. */
const largeBytes = 4096;
export const hubCommit = "0123456789abcdef0123456789abcdef01234567";

/**
 * Serves what the library calls, as the Hub does it: the model's information with its commit, the file tree in pages, and files, the large
 * ones by a redirect to a storage host of another origin, with ranges, ETag, X-Linked-Etag and X-Repo-Commit.
 */
export async function startHub(options: HubServerOptions): Promise<HubServer> {
  const { folder, name = "acme/tiny-xl", intercept = () => false, token } = options;
  const requests: HubRequest[] = [];
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((file) => statSync(join(folder, file)).isFile())
    .map((file) => describe(folder, file));

  const note = (host: HubRequest["host"], { url = "", headers }: IncomingMessage): HubRequest => {
    const { range, authorization } = headers;
    const request = { host, path: decodeURIComponent(url.split("?")[0] ?? ""), range, authorization };
    requests.push(request);
    return request;
  };

  const storage = await listenOn((incoming, response) => {
    const request = note("storage", incoming);
    const file = files.find(({ oid }) => request.path === `/${oid}`);
    if (!intercept(request, response, file?.bytes)) {
      // Such hosts sit behind a CDN; some clients take this header for leave to send it the token.
      response.setHeader("x-cache", "Hit from cloudfront");
      sendFile(response, file, request.range);
    }
  });

  const hub = await listenOn((incoming, response) => {
    const request = note("hub", incoming);
    const { path } = request;
    const resolved = `/${name}/resolve/${hubCommit}/`;
    const file = path.startsWith(resolved)
      ? files.find((candidate) => candidate.path === path.slice(resolved.length))
      : undefined;
    if (intercept(request, response, file?.bytes)) {
      return;
    }
    if (token !== undefined && request.authorization !== `Bearer ${token}`) {
      reject(response, 401, "RepoNotFound", "Invalid username or password.");
    } else if (path === `/api/models/${name}/revision/main` || path === `/api/models/${name}/revision/${hubCommit}`) {
      sendJson(response, { _id: "1", id: name, sha: hubCommit });
    } else if (path.startsWith(`/api/models/${name}/revision/`)) {
      reject(response, 404, "RevisionNotFound", "Invalid rev id");
    } else if (path === `/api/models/${name}/tree/${hubCommit}`) {
      const second = incoming.url?.includes("cursor=2");
      if (!second) {
        response.setHeader("link", `<${hub.url}${path}?recursive=true&expand=false&cursor=2>; rel="next"`);
      }
      sendJson(response, treePage(files, options, second ? [10] : [0, 10]));
    } else if (file?.large) {
      response.writeHead(302, {
        location: `${storage.url}/${file.oid}?signature=secret`,
        etag: `"${file.oid}"`,
        "x-linked-etag": `"${file.oid}"`,
        "x-linked-size": file.bytes.length,
        "x-repo-commit": hubCommit,
      });
      response.end();
    } else if (file !== undefined) {
      response.setHeader("x-repo-commit", hubCommit);
      sendFile(response, file, request.range);
    } else {
      const entry = path.startsWith(`/${name}/`);
      reject(response, 404, entry ? "EntryNotFound" : "RepoNotFound", "Repository not found");
    }
  });

  return {
    url: hub.url,
    commit: hubCommit,
    requests,
    async close() {
      await Promise.all([hub.close(), storage.close()]);
    },
  };
}

interface HubFile {
  readonly path: string;
  readonly bytes: Buffer;
  readonly large: boolean;
  /** Hash that the Hub calls the content by. */
  readonly oid: string;
}

function describe(folder: string, file: string): HubFile {
  const bytes = readFileSync(join(folder, file));
  const large = bytes.length >= largeBytes;
  const oid = large
    ? createHash("sha256").update(bytes).digest("hex")
    : createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
  return { path: file.replaceAll("\\", "/"), bytes, large, oid };
}

function treePage(files: readonly HubFile[], { sizes, names }: HubServerOptions, range: readonly number[]) {
  return files.slice(...range).map(({ path: truePath, bytes, large, oid }) => {
    const path = names?.[truePath] ?? truePath;
    const size = sizes?.[truePath] ?? bytes.length;
    const pointer = { oid: "f".repeat(40), lfs: { oid, size, pointerSize: 134 } };
    return { type: "file", path, size, ...(large ? pointer : { oid }) };
  });
}

function sendJson(response: ServerResponse, value: unknown): void {
  response.setHeader("content-type", "application/json; charset=utf-8");
  response.end(JSON.stringify(value));
}

function reject(response: ServerResponse, status: number, code: string, message: string): void {
  response.writeHead(status, { "x-error-code": code, "x-error-message": message, "content-type": "application/json" });
  response.end(JSON.stringify({ error: message }));
}

function sendFile(response: ServerResponse, file: HubFile | undefined, range: string | undefined): void {
  if (file === undefined) {
    response.writeHead(404).end();
    return;
  }
  const { bytes, oid } = file;
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
  const start = Number(from ?? 0);
  const end = to ? Number(to) + 1 : bytes.length;
  response.writeHead(from === undefined ? 200 : 206, {
    etag: `"${oid}"`,
    "accept-ranges": "bytes",
    "content-length": end - start,
    ...(from !== undefined && { "content-range": `bytes ${start}-${end - 1}/${bytes.length}` }),
  });
  response.end(bytes.subarray(start, end));
}

/** A server on a free loopback port that ends with the test file, at the latest. */
async function listenOn(listener: RequestListener): Promise<{ readonly url: string; close(): Promise<void> }> {
  const server = createServer(listener).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const close = async (): Promise<void> => {
    if (server.listening) {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    }
  };
  after(close);
  return { url: `http://127.0.0.1:${port}`, close };
}
