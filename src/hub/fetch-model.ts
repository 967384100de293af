import { mkdir, statfs } from "node:fs/promises";
import { join } from "node:path";
import { type FetchBlobOptions, fetchBlob, type HubTimeouts } from "./fetch-blob.js";
import type { HubClient, RemoteFile } from "./hub-client.js";
import { HubError, type SendRequest, subjectOf } from "./hub-fetch.js";
import { createModelCache, fileExists, type ModelCache } from "./model-cache.js";
import type { ModelId } from "./model-id.js";
import { missingSafetensors, planSafetensors, shardFiles, singleFiles } from "./safetensors-files.js";
import { graphFiles, lackingFiles, missingFiles, namedFiles, weightFiles } from "./sdxl-files.js";

/** How far a download is. */
export interface DownloadProgress {
  /** File that is fetched now. */
  readonly file: string;
  /** Bytes of all files together. */
  readonly doneBytes: number;
  /** It may change once, when the graphs have named their weights. */
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
  readonly timeouts?: HubTimeouts;
}

const defaultTimeouts: HubTimeouts = { attempts: 5, retryMs: 1000, staleMs: 5000 };

/**
 * Gives an SDXL model of the Hub: from the cache, without any network, where it is whole, else a fresh one. Of a repository that has
 * safetensors, they are fetched, in half precision where there are such; else its ONNX form. Only the files that are needed are fetched.
 *
 * @returns the snapshot's folder, whose files are links into the cache, or the path of the file that the id names in it.
 * @throws HubError that names the model, the file and the remedy; the signal's reason when it is aborted.
 */
export async function fetchModel(options: FetchModelOptions): Promise<string> {
  const { model, cacheFolder, endpoint = "https://huggingface.co", token, offline = false, signal, send } = options;
  const cache = createModelCache(cacheFolder, model.name);
  const known = await cache.readRef(model.revision);
  const missing = known === undefined ? undefined : await missingIn(cache.snapshot(known), model);
  if (known !== undefined && missing?.length === 0) {
    return resultOf(cache, known, model);
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

/** What a snapshot lacks. */
async function missingIn(snapshot: string, { file }: ModelId): Promise<readonly string[]> {
  if (file !== undefined) {
    return (await fileExists(join(snapshot, file))) ? [] : [file];
  }
  const ofSafetensors = await missingSafetensors(snapshot).catch(() => ["weights"]);
  return ofSafetensors ?? (await missingFiles(snapshot).catch(() => graphFiles));
}

function resultOf(cache: ModelCache, commit: string, { file }: ModelId): string {
  return file === undefined ? cache.snapshot(commit) : join(cache.snapshot(commit), file);
}

/** What to fetch: files with names of their own, and those that these name. */
interface DownloadPlan {
  readonly named: readonly string[];
  /** Probable weight files of the named graphs, so that the total is known at once. */
  readonly likely: readonly string[];
  /** Files of weights that the named ones want, once they are there. */
  readonly weights: (snapshot: string) => Promise<readonly string[]>;
}

function planDownload(files: ReadonlyMap<string, RemoteFile>, options: FetchModelOptions): DownloadPlan {
  const { model } = options;
  if (model.file !== undefined) {
    checkHasFile(model.file, files, options);
    return { named: [model.file], likely: [], weights: async () => [] };
  }
  const safetensors = planSafetensors(new Set(files.keys()));
  if (safetensors !== undefined) {
    if (safetensors.lacking.length > 0) {
      const advice = "it is not a whole SDXL model; take another repository";
      throw new HubError("unusable", model.name, `the repository has no ${safetensors.lacking.join(", ")}; ${advice}`);
    }
    return { named: safetensors.files, likely: [], weights: (snapshot) => shardFiles(snapshot, safetensors.files) };
  }
  checkFiles(files, options);
  return {
    named: namedFiles.filter((path) => files.has(path) && !replaced(path, files)),
    // The usual name of the weights beside a graph; the graph's own name for them wins.
    likely: [...files.keys()].filter((path) => graphFiles.some((graph) => path.startsWith(`${graph}_data`))),
    weights: weightFiles,
  };
}

function checkHasFile(file: string, files: ReadonlyMap<string, RemoteFile>, { model }: FetchModelOptions): void {
  if (!files.has(file)) {
    const others = singleFiles(files.keys()).slice(0, listedFiles);
    const advice = others.length > 0 ? `it has ${others.join(", ")}` : "it has no checkpoint of one file";
    throw new HubError("not-found", subjectOf({ model, file }), `the repository has no such file; ${advice}`);
  }
}

/** Names of a repository's files that an error lists. */
const listedFiles = 10;

async function download(client: HubClient, cache: ModelCache, options: FetchModelOptions): Promise<string> {
  const { model, timeouts = defaultTimeouts, signal, onProgress } = options;
  const commit = await client.commit();
  const files = await client.files(commit);
  const { named, likely, weights: weightsOf } = planDownload(files, options);
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
        timeouts,
        signal,
        onBytes,
      });
      await cache.link(commit, path, file.hash.hex);
      doneBytes += file.size;
    }
  };
  await fetchAll(named);
  const weights = await weightsOf(cache.snapshot(commit)).catch((error: unknown) => {
    if (!(error instanceof Error) || "code" in error) {
      throw error;
    }
    const problem = `one of its files cannot be used (${error.message}); take another repository`;
    throw new HubError("unusable", model.name, problem, { cause: error });
  });
  totalBytes = sum([...named, ...weights]);
  await fetchAll(weights);
  // Last, so that it leads to a whole model only.
  await cache.writeRef(model.revision, commit);
  return resultOf(cache, commit, model);
}

/** tokenizer.json has the content of vocab.json and merges.txt. */
function replaced(path: string, files: ReadonlyMap<string, RemoteFile>): boolean {
  return path.endsWith("/tokenizer.json") && files.has(path.replace("tokenizer.json", "vocab.json"));
}

function checkFiles(files: ReadonlyMap<string, RemoteFile>, { model }: FetchModelOptions): void {
  const lacking = lackingFiles(new Set(files.keys()));
  const [graph] = lacking.filter((path) => graphFiles.includes(path));
  if (graph !== undefined) {
    const singles = singleFiles(files.keys()).slice(0, listedFiles);
    const advice =
      singles.length > 0
        ? `name one of its checkpoints, as in ${model.name}:${singles[0]} (it has ${singles.join(", ")})`
        : "take a repository that has safetensors of every part, or an ONNX export";
    throw new HubError("unusable", model.name, `the repository has no whole folder of an SDXL model; ${advice}`);
  }
  if (lacking.length > 0) {
    const advice = "it is not a whole SDXL model in ONNX form; take another repository";
    throw new HubError("unusable", model.name, `the repository has no ${lacking.join(", ")}; ${advice}`);
  }
}

/** Reject a model that the disk cannot hold before the download starts. */
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
