import { mkdir, statfs } from "node:fs/promises";
import { type FetchBlobOptions, fetchBlob, type Patience } from "./fetch-blob.js";
import type { HubClient, RemoteFile } from "./hub-client.js";
import { HubError } from "./hub-error.js";
import { type SendRequest, subjectOf } from "./hub-fetch.js";
import { createModelCache, fileExists, type ModelCache } from "./model-cache.js";
import type { ModelId } from "./model-id.js";
import { graphFiles, lackingFiles, missingFiles, namedFiles, weightFiles } from "./sdxl-files.js";

/** How far a download is. */
export interface DownloadProgress {
  /** File that is fetched now. */
  readonly file: string;
  /** Bytes of all files together. */
  readonly doneBytes: number;
  /** It may change once, when the graphs have said which weights they want. */
  readonly totalBytes: number;
}

export interface FetchModelOptions {
  readonly model: ModelId;
  /** Folder of all models, such as `~/.cache/huggingface/hub`: the standard cache, shared with Python's huggingface_hub. */
  readonly cacheFolder: string;
  /** Base URL of the Hub, without a slash at its end. @default https://huggingface.co */
  readonly endpoint?: string;
  /** Access token, for private and gated models. It goes to the endpoint alone, and into no message. */
  readonly token?: string | undefined;
  /** Take what the cache has, and use no network. @default false */
  readonly offline?: boolean;
  readonly signal?: AbortSignal;
  /** What sends the requests, through a proxy or not. @default fetch */
  readonly send?: SendRequest | undefined;
  readonly onProgress?: (progress: DownloadProgress) => void;
  /** @default 5 attempts, the first wait a second; another's file is left behind after 5 seconds */
  readonly patience?: Patience;
}

const usualPatience: Patience = { attempts: 5, retryMs: 1000, staleMs: 5000 };

/**
 * Gives the folder of an SDXL model in ONNX form from the Hub: that in the cache, without any network, where it is whole, else a fresh
 * one. Only the files that such a folder needs are fetched.
 *
 * @returns the snapshot's folder, whose files are links into the cache.
 * @throws HubError that names the model, the file and the remedy; the signal's reason when it is aborted.
 */
export async function fetchModel(options: FetchModelOptions): Promise<string> {
  const { model, cacheFolder, endpoint = "https://huggingface.co", token, offline = false, signal, send } = options;
  const cache = createModelCache(cacheFolder, model.name);
  const known = await cache.readRef(model.revision);
  const missing = known === undefined ? undefined : await missingFiles(cache.snapshot(known)).catch(() => graphFiles);
  if (known !== undefined && missing?.length === 0) {
    return cache.snapshot(known);
  }
  if (offline) {
    const what = missing === undefined ? "it is not in" : `${missing.join(", ")} missing in`;
    throw new HubError("offline", model.name, `${what} ${cacheFolder}, and HF_HUB_OFFLINE is set; unset it once`);
  }
  try {
    // Loaded here, because most starts need no network.
    const { createHubClient } = await import("./hub-client.js");
    return await download(createHubClient({ model, endpoint, token, signal, send }), cache, options);
  } catch (error) {
    signal?.throwIfAborted();
    throw asDiskError(error, options);
  }
}

async function download(client: HubClient, cache: ModelCache, options: FetchModelOptions): Promise<string> {
  const { model, patience = usualPatience, signal, onProgress } = options;
  const commit = await client.commit();
  const files = await client.files(commit);
  checkFiles(files, options);

  const named = namedFiles.filter((path) => files.has(path) && !replaced(path, files));
  // The usual name of the weights beside a graph, to have a total at once; the graphs have the last word.
  const likely = [...files.keys()].filter((path) => graphFiles.some((graph) => path.startsWith(`${graph}_data`)));
  const sizeOf = (path: string): number => files.get(path)?.size ?? 0;
  const sum = (paths: readonly string[]): number => paths.reduce((total, path) => total + sizeOf(path), 0);
  let totalBytes = sum([...named, ...likely]);
  let doneBytes = 0;

  const fetchAll = async (paths: readonly string[]): Promise<void> => {
    await checkSpace(paths, files, cache, options);
    for (const path of paths) {
      const file = files.get(path);
      if (file === undefined) {
        throw new HubError(
          "unusable",
          subjectOf({ model, file: path }),
          "a graph wants it, and the repository has it not",
        );
      }
      const onBytes: FetchBlobOptions["onBytes"] = (bytes) =>
        onProgress?.({ file: path, doneBytes: Math.min(doneBytes + bytes, totalBytes), totalBytes });
      const blob = cache.blob(file.hash.hex);
      await fetchBlob({
        subject: subjectOf({ model, file: path }),
        blob,
        client,
        commit,
        file,
        patience,
        signal,
        onBytes,
      });
      await cache.link(commit, path, file.hash.hex);
      doneBytes += file.size;
    }
  };
  await fetchAll(named);
  const weights = await weightFiles(cache.snapshot(commit)).catch((error: unknown) => {
    if (!(error instanceof Error) || "code" in error) {
      throw error;
    }
    const problem = `one of its graphs cannot be used (${error.message}); take another repository`;
    throw new HubError("unusable", model.name, problem, { cause: error });
  });
  totalBytes = sum([...named, ...weights]);
  await fetchAll(weights);
  // Last, so that it leads to a whole model only.
  await cache.writeRef(model.revision, commit);
  return cache.snapshot(commit);
}

/** tokenizer.json says once more what vocab.json and merges.txt say. */
function replaced(path: string, files: ReadonlyMap<string, RemoteFile>): boolean {
  return path.endsWith("/tokenizer.json") && files.has(path.replace("tokenizer.json", "vocab.json"));
}

function checkFiles(files: ReadonlyMap<string, RemoteFile>, { model }: FetchModelOptions): void {
  const lacking = lackingFiles(new Set(files.keys()));
  const [graph] = lacking.filter((path) => graphFiles.includes(path));
  if (graph !== undefined) {
    const advice = "take a repository that has an ONNX export, or make one with `optimum-cli export onnx`";
    throw new HubError("unusable", model.name, `the repository has no ${graph}; ${advice}`);
  }
  if (lacking.length > 0) {
    const advice = "it is not a whole SDXL model in ONNX form; take another repository";
    throw new HubError("unusable", model.name, `the repository has no ${lacking.join(", ")}; ${advice}`);
  }
}

/** Refuses what the disk cannot hold before hours have gone into it. */
async function checkSpace(
  paths: readonly string[],
  files: ReadonlyMap<string, RemoteFile>,
  cache: ModelCache,
  { model, cacheFolder }: FetchModelOptions,
): Promise<void> {
  await mkdir(cacheFolder, { recursive: true });
  let needed = 0;
  for (const path of paths) {
    const file = files.get(path);
    if (file !== undefined && !(await fileExists(cache.blob(file.hash.hex)))) {
      needed += file.size;
    }
  }
  const { bavail, bsize } = await statfs(cacheFolder);
  if (needed > bavail * bsize) {
    const [wants, has] = [needed, bavail * bsize].map((bytes) => `${(bytes / 1e9).toFixed(1)} GB`);
    throw new HubError("disk", model.name, `it needs ${wants}, and ${cacheFolder} has ${has} free; ${diskAdvice}`);
  }
}

const diskAdvice = "free some space, or set HF_HOME to a folder on another disk";

function asDiskError(error: unknown, { model, cacheFolder }: FetchModelOptions): unknown {
  if (error instanceof HubError || !(error instanceof Error && "code" in error)) {
    return error;
  }
  const full = error.code === "ENOSPC" || error.code === "EDQUOT";
  const problem = full
    ? `the disk of ${cacheFolder} is full; ${diskAdvice}; what has come is kept`
    : `${cacheFolder} cannot be written (${error.message}); set HF_HOME to a folder that can`;
  return new HubError("disk", model.name, problem, { cause: error });
}
