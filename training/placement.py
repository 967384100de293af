"""Other placements of a picture on its white square: smaller, moved, mirrored. They are what a seed decides."""

import random

import numpy as np
from PIL import Image

from common import SIZE

# Mirrored, these would be wrong or say something else.
NEVER_MIRRORED = {
    "1st place medal", "books", "calendar", "check mark button", "game die", "green book", "musical note", "musical keyboard", "pool 8 ball",
    "red question mark", "stop sign", "watch", "alarm clock", "television", "globe showing Europe-Africa",
}
# Of a picture's placements the first is the picture as it is.
PLACEMENTS = 4


def place(pixels, name, rng: random.Random):
    """The picture (uint8 H x W x 3) at 82 to 98 % of its size, somewhere on the white square, mirrored half of the time where that does no harm."""
    side = round(SIZE * rng.uniform(0.82, 0.98))
    small = Image.fromarray(pixels).resize((side, side), Image.LANCZOS)
    if name not in NEVER_MIRRORED and rng.random() < 0.5:
        small = small.transpose(Image.FLIP_LEFT_RIGHT)
    out = np.full_like(pixels, 255)
    x, y = rng.randint(0, SIZE - side), rng.randint(0, SIZE - side)
    out[y : y + side, x : x + side] = np.asarray(small)
    return out
