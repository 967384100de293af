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
