"""Trains the byte-pair vocabulary in CLIP's format and writes tokenizer/ and tokenizer_2/.

python make_tokenizer.py --out DIR [--size 3000]

The corpus is the recipe's own captions plus all names and keywords of the emoji data, so that words outside the concept set are still cut sensibly.
"""

import argparse
import collections
import json
import random
import re
from pathlib import Path

from captions import COLOURS, STYLE_SHARE, caption, load_concepts, load_tags
from common import add_work_argument

START, END = "<|startoftext|>", "<|endoftext|>"


def bytes_to_unicode():
    keep = list(range(ord("!"), ord("~") + 1)) + list(range(ord("¡"), ord("¬") + 1)) + list(range(ord("®"), ord("ÿ") + 1))
    codes, extra = list(keep), 0
    for b in range(256):
        if b not in keep:
            keep.append(b)
            codes.append(256 + extra)
            extra += 1
    return {b: chr(c) for b, c in zip(keep, codes)}


def words_of(text):
    return re.findall(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+", text.lower())


def train(counts, merges_wanted):
    words = {w: tuple(w[:-1]) + (w[-1] + "</w>",) for w in counts}
    merges = []
    while len(merges) < merges_wanted:
        pairs = collections.Counter()
        for w, symbols in words.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += counts[w]
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        for w, symbols in words.items():
            if best[0] not in symbols:
                continue
            out, i = [], 0
            while i < len(symbols):
                if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == best:
                    out.append(symbols[i] + symbols[i + 1])
                    i += 2
                else:
                    out.append(symbols[i])
                    i += 1
            words[w] = tuple(out)
    return merges


def main():
    parser = argparse.ArgumentParser()
    add_work_argument(parser)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=3000)
    args = parser.parse_args()

    rng = random.Random(args.seed)
    table = bytes_to_unicode()
    counts = collections.Counter()

    def add(text, times=1):
        for word in words_of(text):
            counts["".join(table[b] for b in word.encode())] += times

    for name, phrases, recolour in load_concepts():
        for style in STYLE_SHARE:
            for _ in range(10):
                add(caption(phrases, style, rng.choice(list(COLOURS)) if recolour else None, None, rng))
        for phrase in phrases:
            add(phrase, 20)
    info = json.loads((args.work / "data/node_modules/unicode-emoji-json/data-by-emoji.json").read_text())
    for entry in info.values():
        if entry["group"] != "Flags":
            add(entry["name"], 4)
    for tags in load_tags(args.work).values():
        for tag in tags:
            add(tag, 1)

    symbols = list(table.values())
    vocab = symbols + [s + "</w>" for s in symbols]
    merges = train(counts, args.size - len(vocab) - 2)
    vocab += ["".join(m) for m in merges] + [START, END]
    ids = {token: i for i, token in enumerate(vocab)}
    assert len(ids) == len(vocab)
    for folder, pad in (("tokenizer", END), ("tokenizer_2", "!")):
        out = args.out / folder
        out.mkdir(parents=True, exist_ok=True)
        (out / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False))
        (out / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
        special = lambda text: dict(content=text, lstrip=False, normalized=True, rstrip=False, single_word=False)
        (out / "special_tokens_map.json").write_text(
            json.dumps(dict(bos_token=special(START), eos_token=special(END), pad_token=pad, unk_token=special(END)), indent=2) + "\n"
        )
        config = dict(
            add_prefix_space=False,
            added_tokens_decoder={
                str(ids[t]): dict(content=t, lstrip=False, normalized=t != "!", rstrip=False, single_word=False, special=True)
                for t in sorted({START, END, pad}, key=lambda t: ids[t])
            },
            bos_token=START,
            clean_up_tokenization_spaces=True,
            do_lower_case=True,
            eos_token=END,
            errors="replace",
            model_max_length=77,
            pad_token=pad,
            tokenizer_class="CLIPTokenizer",
            unk_token=END,
        )
        (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    print(f"{len(vocab)} entries, {len(merges)} merges, start {ids[START]}, end {ids[END]}")


if __name__ == "__main__":
    main()
