import { readFile } from "node:fs/promises";
import { isDeepStrictEqual, promisify } from "node:util";
import { gunzip } from "node:zlib";
import { type FolderReader, ModelFolderError } from "./folder-reader.js";
import { type SpecialToken, tokenizerJsonSchema, tokenizerSchema, vocabularySchema } from "./model-config.js";

/** Content of a tokenizer folder. */
export interface ClipTokenizerOptions {
  /** Token → id. */
  readonly vocabulary: ReadonlyMap<string, number>;
  /** Pairs to join, each as `left right`, with their ranks: the best is 0. */
  readonly ranks: ReadonlyMap<string, number>;
  /** Texts of the special tokens. They count as such inside a prompt too. */
  readonly specialTokens: {
    readonly start: string;
    readonly end: string;
    readonly padding: string;
    readonly unknown: string;
    /** Those that count in any case: transformers matches them after normalization, the others as they are written. */
    readonly normalized: ReadonlySet<string>;
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
 * `truncation=True`. As there, a special token written in the text becomes that token, of most models in any case; SDXL's second
 * tokenizer pads with `!`, so every `!` of a prompt is a padding token for it.
 *
 * @throws Error when a special token is not in the vocabulary.
 */
export function createClipTokenizer(options: ClipTokenizerOptions): ClipTokenizer {
  const { vocabulary, ranks, specialTokens, maximumTokens } = options;
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
  const { normalized, ...named } = specialTokens;
  const specialIds = new Map(Object.values(named).map((token) => [token, specialId(token)]));
  const texts = [...specialIds.keys()];
  const splitExact = splitterAt(texts.filter((token) => !normalized.has(token)));
  const splitNormalized = splitterAt(texts.filter((token) => normalized.has(token)));

  function encodeWord(word: string): number[] {
    const bytes = [...Buffer.from(word)].map((byte) => symbols[byte] ?? "");
    return joinPairs([...bytes.slice(0, -1), `${bytes.at(-1)}${endOfWord}`], ranks).map(
      (token) => vocabulary.get(token) ?? unknown,
    );
  }

  const encodePart = (text: string): number[] =>
    splitNormalized(text).flatMap((part, index) =>
      index % 2 === 1
        ? [specialIds.get(part) ?? unknown]
        : [...part.matchAll(wordPattern)].flatMap(([word]) => encodeWord(word)),
    );

  return (text) => {
    const ids = splitExact(text).flatMap((part, index) =>
      index % 2 === 1 ? [specialIds.get(part) ?? unknown] : encodePart(normalize(part)),
    );
    const kept = ids.slice(0, maximumTokens - 2);
    const used = [start, ...kept, end];
    return {
      ids: [...used, ...new Array<number>(maximumTokens - used.length).fill(padding)],
      truncatedTokens: ids.length - kept.length,
    };
  };
}

/** Ranks of pairs, best first. */
export function rankPairs(pairs: Iterable<string>): ReadonlyMap<string, number> {
  const ranks = new Map<string, number>();
  for (const pair of pairs) {
    ranks.set(pair, ranks.size);
  }
  return ranks;
}

/** Cuts a text at these tokens, which stand at the odd places of the result. */
function splitterAt(tokens: readonly string[]): (text: string) => readonly string[] {
  if (tokens.length === 0) {
    return (text) => [text];
  }
  const pattern = new RegExp(`(${tokens.map(escapeForRegExp).join("|")})`, "u");
  return (text) => text.split(pattern);
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
  const ranks = rankPairs(merges);
  const normalized = new Set([start, end]);
  const create = (padding: string): ClipTokenizer =>
    createClipTokenizer({
      vocabulary,
      ranks,
      maximumTokens,
      specialTokens: { start, end, padding, unknown: end, normalized },
    });
  return [create(end), create("!")];
}

/** The bytes' symbols in the order of their ids: those that stand for themselves, then the others. */
function printableFirst(): readonly string[] {
  const symbols = byteSymbols();
  const own = symbols.filter((symbol, byte) => symbol.charCodeAt(0) === byte);
  return [...own, ...symbols.filter((symbol, byte) => symbol.charCodeAt(0) !== byte)];
}

/**
 * Reads tokenizers' folders: vocab.json and merges.txt as in the official folders, else tokenizer.json.
 *
 * @param maximumTokens how many tokens the text encoder takes: 77 for every CLIP. A shorter `model_max_length` counts.
 * @throws ModelFolderError
 */
export async function readTokenizers(
  reader: FolderReader,
  folders: readonly [string, string],
  maximumTokens: readonly [number, number],
): Promise<readonly [ClipTokenizer, ClipTokenizer]> {
  const first = await readTokenizer(reader, folders[0], maximumTokens[0]);
  const second = await readTokenizer(reader, folders[1], maximumTokens[1], first.vocabulary);
  return [first.tokenizer, second.tokenizer];
}

async function readTokenizer(
  reader: FolderReader,
  folder: string,
  maximumTokens: number,
  known?: Vocabulary,
): Promise<{ readonly tokenizer: ClipTokenizer; readonly vocabulary: Vocabulary }> {
  const configFile = `${folder}/tokenizer_config.json`;
  const config = await reader.json(configFile, tokenizerSchema);
  const special = (await reader.optionalJson(`${folder}/special_tokens_map.json`, tokenizerSchema)) ?? {};
  const vocabulary = await readVocabulary(reader, folder, known);
  const token = (name: "bos_token" | "eos_token" | "pad_token" | "unk_token", absent: string) =>
    special[name] ?? config[name] ?? { content: absent, normalized: false };
  const end = token("eos_token", "<|endoftext|>");
  const tokens = [
    token("bos_token", "<|startoftext|>"),
    end,
    token("pad_token", end.content),
    token("unk_token", end.content),
  ];
  const [start = end, , padding = end, unknown = end] = tokens;
  // As in transformers, the list of added tokens comes first.
  const listed = [...Object.values(config.added_tokens_decoder ?? {}), ...vocabulary.added];
  const isNormalized = ({ content, normalized }: SpecialToken): boolean =>
    listed.find((each) => each.content === content)?.normalized ?? normalized;
  // Some configurations have a huge number for "no limit".
  const length = (config.model_max_length ?? Number.POSITIVE_INFINITY) < 1e6 ? config.model_max_length : undefined;
  if (length != null && length > maximumTokens) {
    const expected = `"model_max_length" of at most ${maximumTokens}, the tokens that the text encoder takes`;
    throw new ModelFolderError(reader.folder, { file: configFile, expected, found: `${length}` });
  }
  try {
    const tokenizer = createClipTokenizer({
      vocabulary: vocabulary.ids,
      ranks: vocabulary.ranks,
      maximumTokens: length ?? maximumTokens,
      specialTokens: {
        start: start.content,
        end: end.content,
        padding: padding.content,
        unknown: unknown.content,
        normalized: new Set(tokens.filter(isNormalized).map(({ content }) => content)),
      },
    });
    return { tokenizer, vocabulary };
  } catch (error) {
    const found = error instanceof Error ? error.message : String(error);
    const file = `${folder}/vocab.json`;
    throw new ModelFolderError(reader.folder, { file, expected: "every special token", found }, { cause: error });
  }
}

interface Vocabulary {
  readonly ids: ReadonlyMap<string, number>;
  readonly ranks: ReadonlyMap<string, number>;
  readonly added: readonly SpecialToken[];
  /** vocab.json and merges.txt, or tokenizer.json. */
  readonly texts: readonly string[];
}

/** @param known returned if the files are the same: SDXL's two tokenizers have one vocabulary, which takes long to parse. */
async function readVocabulary(reader: FolderReader, folder: string, known?: Vocabulary): Promise<Vocabulary> {
  const vocabularyFile = `${folder}/vocab.json`;
  const wholeFile = `${folder}/tokenizer.json`;
  const isKnown = (texts: readonly string[]) => isDeepStrictEqual(texts, known?.texts);
  const text = await reader.optionalText(vocabularyFile);
  if (text !== undefined) {
    const texts = [text, await reader.text(`${folder}/merges.txt`)] as const;
    if (known !== undefined && isKnown(texts)) {
      return known;
    }
    const lines = texts[1].split(/\r?\n/);
    const pairs = lines.filter((line) => line !== "" && !line.startsWith("#version"));
    const ids = reader.parse(vocabularyFile, text, vocabularySchema);
    return { ids, ranks: rankPairs(pairs), added: [], texts };
  }
  const whole = await reader.optionalText(wholeFile);
  if (whole === undefined) {
    const expected = "a file (or tokenizer.json in its place)";
    throw new ModelFolderError(reader.folder, { file: vocabularyFile, expected, found: "neither" });
  }
  if (known !== undefined && isKnown([whole])) {
    return known;
  }
  const { model, added_tokens } = reader.parse(wholeFile, whole, tokenizerJsonSchema);
  return { ids: model.vocab, ranks: rankPairs(model.merges), added: added_tokens, texts: [whole] };
}
