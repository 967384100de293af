import { type ClipTokenizer, createClipTokenizer } from "./clip-tokenizer.js";
import type { FolderReader } from "./folder-reader.js";
import { tokenizerJsonSchema, tokenizerSchema, vocabularySchema } from "./model-config.js";
import { ModelFolderError } from "./model-folder-error.js";

/**
 * Reads a tokenizer's folder: vocab.json and merges.txt as in the official folders, else tokenizer.json.
 *
 * @throws ModelFolderError
 */
export async function readTokenizer(reader: FolderReader, folder: string): Promise<ClipTokenizer> {
  const configFile = `${folder}/tokenizer_config.json`;
  const config = await reader.json(configFile, tokenizerSchema);
  const special = (await reader.optionalJson(`${folder}/special_tokens_map.json`, tokenizerSchema)) ?? {};
  const { vocabulary, merges } = await readVocabulary(reader, folder);
  const end = special.eos_token ?? config.eos_token ?? "<|endoftext|>";
  try {
    return createClipTokenizer({
      vocabulary: new Map(Object.entries(vocabulary)),
      merges,
      // 77 for every CLIP; some configurations say "no limit" by a huge number.
      maximumTokens:
        config.model_max_length !== undefined && config.model_max_length < 1e6 ? config.model_max_length : 77,
      specialTokens: {
        start: special.bos_token ?? config.bos_token ?? "<|startoftext|>",
        end,
        padding: special.pad_token ?? config.pad_token ?? end,
        unknown: special.unk_token ?? config.unk_token ?? end,
      },
    });
  } catch (error) {
    const found = error instanceof Error ? error.message : String(error);
    const file = `${folder}/vocab.json`;
    throw new ModelFolderError(reader.folder, { file, expected: "every special token", found }, { cause: error });
  }
}

async function readVocabulary(
  reader: FolderReader,
  folder: string,
): Promise<{ vocabulary: Record<string, number>; merges: readonly string[] }> {
  const vocabulary = await reader.optionalJson(`${folder}/vocab.json`, vocabularySchema);
  if (vocabulary !== undefined) {
    const lines = (await reader.text(`${folder}/merges.txt`)).split("\n");
    return { vocabulary, merges: lines.filter((line) => line !== "" && !line.startsWith("#version")) };
  }
  const whole = await reader.optionalJson(`${folder}/tokenizer.json`, tokenizerJsonSchema);
  if (whole === undefined) {
    const expected = "a file (or tokenizer.json in its place)";
    throw new ModelFolderError(reader.folder, { file: `${folder}/vocab.json`, expected, found: "neither" });
  }
  return { vocabulary: whole.model.vocab, merges: whole.model.merges };
}
