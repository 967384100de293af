import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { downloadFile, listFiles, modelInfo } from "@huggingface/hub";
import { createHubFetch, HubError, type HubFetchOptions, subjectOf, unreachable } from "./hub-fetch.js";
import { isInnerPath } from "./model-id.js";

/** A file of a repository at one commit. */
export interface RemoteFile {
  /** Path inside the repository, which leads out of no folder. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  readonly hash: BlobHash;
}

/** What is asked of the Hub about one model. Every failure is a HubError. */
export interface HubClient {
  /** Commit that the model's revision is at now. */
  commit(): Promise<string>;
  files(commit: string): Promise<ReadonlyMap<string, RemoteFile>>;
  /** The bytes of a file from `offset` on, never more than its size; they are not checked. */
  read(commit: string, file: RemoteFile, offset: number): AsyncGenerator<Uint8Array, void, undefined>;
}

/** A repository lists 1,000 entries a page. */
const maxListed = 20_000;
const answerBounds = { maxRequests: 100, maxBytesPerAnswer: 8 * 2 ** 20 };

/**
 * Calls the Hub through its own library, which makes requests and addresses only: version 2.17 of it starts a cut download
 * from nothing, checks no hash, lets two processes write one file, and sends the token to some storage hosts.
 */
export function createHubClient(options: HubFetchOptions): HubClient {
  const { model, endpoint } = options;
  const hubFetch = createHubFetch(options);
  /** For one question, however many requests it takes. */
  const hub = () => ({ hubUrl: endpoint, fetch: boundFetch(hubFetch, { subject: model.name, ...answerBounds }) });
  const repo = { type: "model", name: model.name } as const;
  const oddAnswer = (what: string): HubError =>
    new HubError(
      "unreachable",
      model.name,
      `${endpoint} gives no ${what}; check that HF_ENDPOINT is a Hugging Face Hub`,
    );

  return {
    async commit() {
      const { name, revision } = model;
      const info = await asHubError(options, () => modelInfo({ ...hub(), name, revision, additionalFields: ["sha"] }));
      if (!/^[0-9a-f]{40}$/.test(info.sha ?? "")) {
        throw oddAnswer("commit of the model");
      }
      return info.sha;
    },
    files: (commit) =>
      asHubError(options, async () => {
        const files = new Map<string, RemoteFile>();
        let listed = 0;
        for await (const { type, path, size: gitSize, oid, lfs } of listFiles({
          ...hub(),
          repo,
          revision: commit,
          recursive: true,
        })) {
          if (++listed > maxListed) {
            throw new HubError("unusable", model.name, `it has more than ${maxListed} files; take another repository`);
          }
          if (type === "file") {
            if (!isInnerPath(path)) {
              throw new HubError(
                "unusable",
                model.name,
                `it lists a file whose name leads elsewhere, ${quoted(path)}; check HF_ENDPOINT, or take another repository`,
              );
            }
            const size = lfs?.size ?? gitSize;
            if (!Number.isInteger(size) || size < 0) {
              throw oddAnswer(`size of ${path}`);
            }
            const hash: BlobHash = lfs
              ? { algorithm: "sha256", hex: lfs.oid }
              : { algorithm: "git-sha1", hex: oid ?? "" };
            if (!/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(hash.hex)) {
              throw oddAnswer(`hash of ${path}`);
            }
            files.set(path, { path, size, hash });
          }
        }
        return files;
      }),
    async *read(commit, { path, size, hash }, offset) {
      const about = { ...options, file: path };
      const hubFetch = createHubFetch(about);
      let failure: unknown;
      const url = `${endpoint}/${model.name}/resolve/${commit}/${path.split("/").map(encodeURIComponent).join("/")}`;
      const blob = await downloadFile({
        repo,
        path,
        // Plain HTTP goes on where it was cut; the chunked protocol of newer repositories does not.
        xet: false,
        // Its own look-up would give a storage host's address, and the token with it.
        downloadInfo: { url, size, etag: hash.hex },
        // Its stream keeps only the message of an error.
        fetch: async (...request) => {
          try {
            return await hubFetch(...request);
          } catch (error) {
            failure = error;
            throw error;
          }
        },
      });
      let come = offset;
      try {
        const bytes = offset === 0 ? blob : blob?.slice(offset, size);
        for await (const chunk of bytes?.stream() ?? []) {
          come += chunk.length;
          if (come > size) {
            // Thrown in the loop, which ends the connection.
            failure = new HubError(
              "corrupt",
              subjectOf(about),
              `the host sends more than the ${size} bytes that are listed; check HF_ENDPOINT, and suspect a proxy`,
            );
            throw failure;
          }
          yield chunk;
        }
      } catch (error) {
        throw failure ?? unreachable(about, error);
      }
      if (come < size) {
        throw unreachable(about, new Error("it ended early"));
      }
    },
  };
}

/** A text from outside, short and on one line. */
function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 100));
}

/** Any other failure is an answer that could not be read. */
async function asHubError<Result>(options: HubFetchOptions, ask: () => Promise<Result>): Promise<Result> {
  try {
    return await ask();
  } catch (error) {
    throw error instanceof HubError ? error : unreachable(options, error);
  }
}

/** What the answers of an API may come to, all together. */
export interface FetchBounds {
  /** What the error is about: the model's id. */
  readonly subject: string;
  readonly maxRequests: number;
  readonly maxBytesPerAnswer: number;
}

/**
 * A `fetch` whose answers are read whole and are bounded in number and size, so that a server cannot keep its caller at it or fill its memory.
 *
 * @throws HubError `unusable` above a bound.
 */
export function boundFetch(
  inner: typeof fetch,
  { subject, maxRequests, maxBytesPerAnswer }: FetchBounds,
): typeof fetch {
  let requests = 0;
  return async (...request) => {
    if (++requests > maxRequests) {
      throw new HubError("unusable", subject, `its listing has more than ${maxRequests} pages; check HF_ENDPOINT`);
    }
    const { body, status, headers } = await inner(...request);
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of body ?? []) {
      size += chunk.length;
      if (size > maxBytesPerAnswer) {
        throw new HubError(
          "unusable",
          subject,
          `an answer about it is larger than ${maxBytesPerAnswer} bytes; check HF_ENDPOINT`,
        );
      }
      chunks.push(chunk);
    }
    return new Response(Buffer.concat(chunks), { status, headers });
  };
}

/** What the Hub calls a file's bytes by: the SHA-256 of a large file, and of a small one the hash that git gives its blob. */
export interface BlobHash {
  readonly algorithm: "sha256" | "git-sha1";
  /** Lower-case hexadecimal digits. */
  readonly hex: string;
}

/** Whether the bytes that lie on disk are those of the hash. */
export async function fileHasHash(path: string, { algorithm, hex }: BlobHash, signal?: AbortSignal): Promise<boolean> {
  const hash = createHash(algorithm === "sha256" ? "sha256" : "sha1");
  if (algorithm === "git-sha1") {
    hash.update(`blob ${(await stat(path)).size}\0`);
  }
  await pipeline(createReadStream(path, { highWaterMark: 1_048_576 }), hash, { signal });
  return hash.digest("hex") === hex;
}
