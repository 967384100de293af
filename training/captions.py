"""Concepts, captions and colours: what the model is told about each picture."""

import json
import random

from common import HERE

# How captions ask for a style. A caption that names none means the default style.
DEFAULT_STYLE = "3d"
STYLE_WORDS = {
    "3d": ["3d style", "in 3d style", "3d", "glossy 3d style"],
    "flat": ["flat style", "in flat style", "flat", "flat design"],
    "noto": ["noto style", "in noto style", "noto"],
    "twemoji": ["twemoji style", "in twemoji style", "twemoji"],
    "mono": ["mono style", "in mono style", "black and white", "in black and white"],
}
STYLE_SHARE = {"3d": 0.27, "flat": 0.205, "noto": 0.205, "twemoji": 0.205, "mono": 0.115}

# Hue in degrees, saturation factor and value factor of each colour word.
COLOURS = {
    "red": (357, 1.0, 1.0),
    "orange": (27, 1.0, 1.0),
    "yellow": (50, 1.0, 1.15),
    "green": (128, 0.95, 0.85),
    "blue": (213, 1.0, 1.0),
    "purple": (272, 0.9, 0.95),
    "pink": (325, 0.6, 1.15),
}


def load_concepts():
    """[(emoji name, [phrases], recoloured?)] in the order of concepts.txt."""
    concepts = []
    for line in (HERE / "concepts.txt").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, phrases = line.split("|")
        mark = name[: len(name) - len(name.lstrip("+*"))]
        recolour = "*" in mark
        concepts.append((name.strip().lstrip("+*"), [p.strip() for p in phrases.split(";")], recolour))
    return concepts


def common_concepts():
    """The names that are drawn more often in training."""
    lines = (HERE / "concepts.txt").read_text().splitlines()
    return {line.split("|")[0].strip().lstrip("+*") for line in lines if line.startswith("+")}


def load_tags(work):
    data = json.loads((work / "data/node_modules/emojibase-data/en/data.json").read_text())
    tags = {}
    for entry in data:
        code = "-".join(h.lower() for h in entry["hexcode"].split("-") if h.lower() != "fe0f")
        tags[code] = entry.get("tags", [])
    return tags


def with_article(phrase, rng):
    plural = phrase.split(" of ")[0].split(" with ")[0].endswith("s") and not phrase.split(" ")[-1].endswith("ss")
    if phrase.startswith(("two ", "three ")):
        return phrase
    pick = rng.random()
    if plural:
        return phrase if pick < 0.75 else ("some " if pick < 0.9 else "the ") + phrase
    if pick < 0.35:
        return phrase
    if pick < 0.42:
        return "the " + phrase
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def caption(phrases, style, colour, tags, rng: random.Random):
    """One of the many ways to ask for a picture."""
    phrase = phrases[0] if rng.random() < 0.7 else rng.choice(phrases)
    if colour:
        phrase = f"{colour} {phrase}"
    text = with_article(phrase, rng)
    pick = rng.random()
    if pick < 0.12:
        text = rng.choice(["emoji of {}", "a picture of {}", "a drawing of {}", "an icon of {}", "{} emoji", "{} icon"]).format(text)
    if tags and rng.random() < 0.04:
        text = f"{text}, {rng.choice(tags)}"
    if style != DEFAULT_STYLE or rng.random() < 0.5:
        words = rng.choice(STYLE_WORDS[style])
        pick = rng.random()
        if pick < 0.6:
            text = f"{text}, {words}"
        elif pick < 0.8:
            text = f"{text} {words}"
        elif words.startswith("in "):
            text = f"{words}, {text}"
        else:
            text = f"{words} {text}" if pick < 0.9 else f"{words}, {text}"
    return text
