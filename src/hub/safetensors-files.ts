import { readdir, readFile } from "node:fs/promises";
import { dirname, join, posix } from "node:path";
import { fileExists } from "./model-cache.js";
import { isInnerPath } from "./model-id.js";

/*
 * Which files of a repository make a diffusers folder of safetensors. Repositories hold the same weights in other precisions and for other
 * frameworks too, many times the size.
 */

const parts = ["text_encoder", "text_encoder_2", "unet", "vae"];
const tokenizers = ["tokenizer", "tokenizer_2"];

/** Weights of a part, best first: half precision, which takes half the time to fetch; then one file, then an index of shards. */
const weightNames = (part: string): readonly string[] => {
  const base = part.startsWith("text") ? "model" : "diffusion_pytorch_model";
  return [
    `${base}.fp16.safetensors`,
    `${base}.safetensors.index.fp16.json`,
    `${base}.fp16.safetensors.index.json`,
    `${base}.safetensors`,
    `${base}.safetensors.index.json`,
  ].map((name) => `${part}/${name}`);
};

const requiredFiles = [
  "model_index.json",
  "scheduler/scheduler_config.json",
  ...tokenizers.map((folder) => `${folder}/tokenizer_config.json`),
  ...parts.map((part) => `${part}/config.json`),
];

const optionalFiles = ["throughline.json", ...tokenizers.map((folder) => `${folder}/special_tokens_map.json`)];

/** The files of a repository that make such a folder, small ones first; undefined where it has no such weights of every part. */
export interface SafetensorsPlan {
  readonly files: readonly string[];
  /** What the folder lacks besides weights. */
  readonly lacking: readonly string[];
}

export function planSafetensors(present: ReadonlySet<string>): SafetensorsPlan | undefined {
  const weights = parts.flatMap((part) => weightNames(part).find((name) => present.has(name)) ?? []);
  if (weights.length < parts.length) {
    return undefined;
  }
  const vocabularies = tokenizers.flatMap((folder) => {
    const split = [`${folder}/vocab.json`, `${folder}/merges.txt`];
    return present.has(`${folder}/tokenizer.json`) && !present.has(split[0] ?? "")
      ? [`${folder}/tokenizer.json`]
      : split;
  });
  const wanted = [...requiredFiles, ...vocabularies];
  return {
    files: [...optionalFiles, ...wanted].filter((file) => present.has(file)).concat(weights),
    lacking: wanted.filter((file) => !present.has(file)),
  };
}

/** Shards that the indices among the files name. @throws Error when an index is none, or names files elsewhere. */
export async function shardFiles(folder: string, files: readonly string[]): Promise<readonly string[]> {
  const indices = files.filter((file) => /\.safetensors\.index(?:\.\w+)?\.json$/.test(file));
  const shards = await Promise.all(
    indices.map(async (file) => shardsOf(await readFile(join(folder, file), "utf8"), file)),
  );
  return shards.flat();
}

function shardsOf(text: string, file: string): readonly string[] {
  const index: unknown = JSON.parse(text);
  const map = typeof index === "object" && index !== null && "weight_map" in index ? index.weight_map : undefined;
  if (typeof map !== "object" || map === null) {
    throw new Error(`${file} has no weight_map`);
  }
  return [...new Set<unknown>(Object.values(map))].map((shard) => {
    if (typeof shard !== "string" || !shard.endsWith(".safetensors") || !isInnerPath(shard)) {
      throw new Error(`${file} wants weights outside its folder, at ${JSON.stringify(shard)?.slice(0, 100)}`);
    }
    return posix.join(posix.dirname(file), shard);
  });
}

/** What a folder on disk lacks of such a folder; undefined where it does not hold such weights of every part. */
export async function missingSafetensors(folder: string): Promise<readonly string[] | undefined> {
  const names = await readdir(folder, { recursive: true }).catch((): string[] => []);
  const present = new Set<string>();
  for (const name of names) {
    // A link may lead nowhere: the cache may have lost a file.
    if (await fileExists(join(folder, name))) {
      present.add(name.replaceAll("\\", "/"));
    }
  }
  const plan = planSafetensors(present);
  if (plan === undefined) {
    return undefined;
  }
  const shards = await shardFiles(folder, plan.files);
  return [...plan.lacking, ...shards.filter((file) => !present.has(file))];
}

/** Checkpoints of one file in a repository: those that lie in no part's folder. */
export function singleFiles(present: Iterable<string>): readonly string[] {
  return [...present].filter(
    (file) => file.endsWith(".safetensors") && !parts.includes(dirname(file).split("/")[0] ?? ""),
  );
}
