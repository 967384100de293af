import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { type FolderReader, ModelFolderError } from "./folder-reader.js";
import { tokenizerJsonSchema, tokenizerSchema, vocabularySchema } from "./model-config.js";

/** What a tokenizer folder says. */
export interface ClipTokenizerOptions {
  /** Token → id. */
  readonly vocabulary: ReadonlyMap<string, number>;
  /** Pairs to join, best first, each as `left right`. */
  readonly merges: readonly string[];
  /** Texts of the special tokens. They count as such inside a prompt too. */
  readonly specialTokens: {
    readonly start: string;
    readonly end: string;
    readonly padding: string;
    readonly unknown: string;
  };
  /** Length of every result, start and end included: 77 for CLIP. */
  readonly maximumTokens: number;
}

/** Token ids of one text, ready for a text encoder. */
export interface TokenizedText {
  /** Exactly `maximumTokens` ids: start, text, end, padding. */
  readonly ids: readonly number[];
  /** Tokens of the text that did not fit. */
  readonly truncatedTokens: number;
}

export type ClipTokenizer = (text: string) => TokenizedText;

export const endOfWord = "</w>";

/**
 * Words as CLIP's tokenizer cuts them. `\p{White_Space}` and not `\s`, which in JavaScript includes U+FEFF and lacks U+0085.
 * Source: https://github.com/openai/CLIP/blob/main/clip/simple_tokenizer.py and transformers' CLIPTokenizer.
 */
const wordPattern = /'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\p{White_Space}\p{L}\p{N}]+/gu;

/**
 * CLIP's byte-pair tokenizer: the ids are those of transformers' `CLIPTokenizer` with `padding="max_length"` and
 * `truncation=True`. As there, a special token written in the text becomes that token; SDXL's second tokenizer pads with
 * `!`, so every `!` of a prompt is a padding token for it.
 *
 * @throws Error when a special token is not in the vocabulary.
 */
export function createClipTokenizer(options: ClipTokenizerOptions): ClipTokenizer {
  const { vocabulary, merges, specialTokens, maximumTokens } = options;
  const ranks = new Map(merges.map((pair, rank) => [pair, rank]));
  const symbols = byteSymbols();
  const specialId = (token: string): number => {
    const id = vocabulary.get(token);
    if (id === undefined) {
      throw new Error(`the special token ${JSON.stringify(token)} is not in the vocabulary`);
    }
    return id;
  };
  const [start, end, padding, unknown] = [
    specialId(specialTokens.start),
    specialId(specialTokens.end),
    specialId(specialTokens.padding),
    specialId(specialTokens.unknown),
  ];
  const specialIds = new Map(Object.values(specialTokens).map((token) => [token, specialId(token)]));
  const specialPattern = new RegExp(`(${[...specialIds.keys()].map(escapeForRegExp).join("|")})`, "u");

  function encodeWord(word: string): number[] {
    const bytes = [...Buffer.from(word)].map((byte) => symbols[byte] ?? "");
    return joinPairs([...bytes.slice(0, -1), `${bytes.at(-1)}${endOfWord}`], ranks).map(
      (token) => vocabulary.get(token) ?? unknown,
    );
  }

  return (text) => {
    // A split with a capture group puts the special tokens themselves at the odd places.
    const ids = text.split(specialPattern).flatMap((part, index) => {
      if (index % 2 === 1) {
        return [specialIds.get(part) ?? unknown];
      }
      return [...normalize(part).matchAll(wordPattern)].flatMap(([word]) => encodeWord(word));
    });
    const kept = ids.slice(0, maximumTokens - 2);
    const used = [start, ...kept, end];
    return {
      ids: [...used, ...new Array<number>(maximumTokens - used.length).fill(padding)],
      truncatedTokens: ids.length - kept.length,
    };
  };
}

/** NFC, and lower case letter by letter: the lower case of a whole text would give a final sigma its own form. */
function normalize(text: string): string {
  return Array.from(text.normalize("NFC"), (letter) => letter.toLowerCase()).join("");
}

/** Joins the best-ranked neighbours, all their occurrences at a time, until no pair has a rank. */
function joinPairs(symbols: readonly string[], ranks: ReadonlyMap<string, number>): readonly string[] {
  let word = symbols;
  while (word.length > 1) {
    let best = Number.POSITIVE_INFINITY;
    let bestPair = "";
    for (let i = 0; i + 1 < word.length; i++) {
      const pair = `${word[i]} ${word[i + 1]}`;
      const rank = ranks.get(pair) ?? Number.POSITIVE_INFINITY;
      if (rank < best) {
        [best, bestPair] = [rank, pair];
      }
    }
    if (best === Number.POSITIVE_INFINITY) {
      return word;
    }
    const joined: string[] = [];
    for (let i = 0; i < word.length; i++) {
      const [left, right] = [word[i] ?? "", word[i + 1]];
      if (right !== undefined && `${left} ${right}` === bestPair) {
        joined.push(left + right);
        i++;
      } else {
        joined.push(left);
      }
    }
    word = joined;
  }
  return word;
}

/** The visible character that stands for each byte in the vocabulary: itself where printable, else one from U+0100 on. */
export function byteSymbols(): readonly string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(printable ? byte : next++);
  });
}

function escapeForRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/gu, "\\$&");
}

/** The merges of CLIP's vocabulary; its licence stands beside it. Two levels up, the same from `src/engine` and from `dist/engine`. */
const mergesFile = new URL("../../models/clip-tokenizer/merges.txt.gz", import.meta.url);
const [start, end] = ["<|startoftext|>", "<|endoftext|>"];
const maximumTokens = 77;

/** CLIP's own tokenizers as SDXL pads them: the first with its end token, the second with `!`. Checkpoints of one file bring none. */
export async function readClipTokenizers(): Promise<readonly [ClipTokenizer, ClipTokenizer]> {
  const text = (await promisify(gunzip)(await readFile(mergesFile))).toString("utf8");
  const merges = text.trimEnd().split("\n");
  const symbols = printableFirst();
  const tokens = [
    ...symbols,
    ...symbols.map((symbol) => symbol + endOfWord),
    ...merges.map((pair) => pair.replace(" ", "")),
    start,
    end,
  ];
  const vocabulary = new Map(tokens.map((token, id) => [token, id]));
  const create = (padding: string): ClipTokenizer =>
    createClipTokenizer({ vocabulary, merges, maximumTokens, specialTokens: { start, end, padding, unknown: end } });
  return [create(end), create("!")];
}

/** The bytes' symbols in the order of their ids: those that stand for themselves, then the others. */
function printableFirst(): readonly string[] {
  const symbols = byteSymbols();
  const own = symbols.filter((symbol, byte) => symbol.charCodeAt(0) === byte);
  return [...own, ...symbols.filter((symbol, byte) => symbol.charCodeAt(0) !== byte)];
}

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
