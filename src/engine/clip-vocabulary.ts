import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { byteSymbols, type ClipTokenizer, createClipTokenizer, endOfWord } from "./clip-tokenizer.js";

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
