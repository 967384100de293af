import { join } from "node:path";
import { externalDataFiles } from "./external-data.js";
import { fileExists } from "./model-cache.js";

/*
 * Which files of a repository make an SDXL folder in ONNX form. Repositories hold the same weights for other frameworks too, many
 * times the size.
 */

const graphFolders = ["text_encoder", "text_encoder_2", "unet", "vae_decoder"];

/** The graph of a sub-model: the plain export, and that in half precision; a repository has one of them or both. */
const graphsOf = (folder: string): readonly string[] => [`${folder}/model.onnx`, `${folder}/model_fp16.onnx`];

/** The graphs; what else they want beside them, they say themselves. */
export const graphFiles: readonly string[] = graphFolders.flatMap(graphsOf);

const tokenizers = ["tokenizer", "tokenizer_2"];

const requiredFiles = [
  "model_index.json",
  "scheduler/scheduler_config.json",
  ...tokenizers.map((folder) => `${folder}/tokenizer_config.json`),
  ...graphFolders.map((folder) => `${folder}/config.json`),
];

/** Files that a folder can do without, or has others in place of. */
const optionalFiles = [
  "throughline.json",
  ...tokenizers.flatMap((folder) =>
    ["special_tokens_map.json", "vocab.json", "merges.txt", "tokenizer.json"].map((file) => `${folder}/${file}`),
  ),
];

/** Every file with a name of its own, small ones first, so that a snapshot that has the graphs has all before them. */
export const namedFiles: readonly string[] = [...optionalFiles, ...requiredFiles, ...graphFiles];

/** What a folder of the given files lacks of an SDXL folder, the weights beside the graphs aside. */
export function lackingFiles(present: ReadonlySet<string>): readonly string[] {
  const vocabularies = tokenizers
    .filter((folder) => !present.has(`${folder}/tokenizer.json`))
    .flatMap((folder) => [`${folder}/vocab.json`, `${folder}/merges.txt`]);
  const graphs = graphFolders.filter((folder) => !graphsOf(folder).some((file) => present.has(file)));
  const lacking = [...requiredFiles, ...vocabularies].filter((file) => !present.has(file));
  return [...lacking, ...graphs.map((folder) => `${folder}/model.onnx`)];
}

/** Files of weights that the graphs of a folder want beside them. */
export async function weightFiles(folder: string): Promise<readonly string[]> {
  const graphs = await existing(folder, graphFiles);
  const names = await Promise.all(graphs.map((file) => externalDataFiles(join(folder, file), file)));
  return names.flatMap((set) => [...set]);
}

/** What a folder on disk lacks; empty when it is whole. */
export async function missingFiles(folder: string): Promise<readonly string[]> {
  const lacking = lackingFiles(new Set(await existing(folder, namedFiles)));
  if (lacking.length > 0) {
    return lacking;
  }
  const weights = await weightFiles(folder);
  const there = new Set(await existing(folder, weights));
  return weights.filter((file) => !there.has(file));
}

async function existing(folder: string, files: readonly string[]): Promise<readonly string[]> {
  const found = await Promise.all(files.map((file) => fileExists(join(folder, file))));
  return files.filter((_, index) => found[index]);
}
