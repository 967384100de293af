import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { pipeline } from "node:stream/promises";

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
