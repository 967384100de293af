import { downloadFile, listFiles, modelInfo } from "@huggingface/hub";
import type { BlobHash } from "./blob-hash.js";
import { boundFetch } from "./bounded-fetch.js";
import { isInnerPath } from "./file-path.js";
import { HubError } from "./hub-error.js";
import { createHubFetch, type HubFetchOptions, subjectOf, unreachable } from "./hub-fetch.js";

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
 * Speaks to the Hub by its own library, which is trusted with requests and addresses only: version 2.17 of it starts a cut download
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
        // Its stream keeps no more than the words of what went wrong.
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

/** What fails without a word of ours is an answer that could not be read. */
async function asHubError<Result>(options: HubFetchOptions, ask: () => Promise<Result>): Promise<Result> {
  try {
    return await ask();
  } catch (error) {
    throw error instanceof HubError ? error : unreachable(options, error);
  }
}
