"""Dense nets on grey pixels, as in the published MNIST experiments: `mlp-800-800` is 784-800-800-10 on 28 px."""

import re
from itertools import pairwise
from math import isqrt
from typing import Any

from kd2mobile.errors import RecipeError
from kd2mobile.students.grey import grey

FORM = "mlp-WIDTH[-WIDTH...]"
WIDEST = 8192
SMALLEST_PX = 2
MOST_WEIGHTS = 500_000_000
"""As many as a .tflite can hold: 2 GB of float32."""


def build(keras: Any, input_px: int, classes: int, *, widths: tuple[int, ...]) -> Any:
    """The mean of the three channels, flat; for each width a dense layer with ReLU; logits.

    With 28 px and 10 classes, 128 and 128 wide, it has 118,282 weights. No dropout, as in the distilled nets of Hinton,
    Vinyals, Dean 2015, section 3.

    keras: the module to build with. input_px: at least 2. Returns a model that takes "pixels", float32
    [batch, input_px, input_px, 3] in [-1, 1], and gives logits, float32 [batch, classes].
    """
    layers = keras.layers
    pixels = layers.Input((input_px, input_px, 3), name="pixels")
    x = layers.Flatten(name="flatten")(grey(layers, pixels, input_px))
    for i, width in enumerate(widths, start=1):
        x = layers.Dense(width, name=f"dense{i}")(x)
        x = layers.ReLU(name=f"dense{i}_relu")(x)
    logits = layers.Dense(classes, name="logits")(x)
    return keras.Model(pixels, logits, name=name_of(widths))


def name_of(widths: tuple[int, ...]) -> str:
    """The student's name.

    >>> name_of((500, 300))
    'mlp-500-300'
    """
    return "-".join(["mlp", *map(str, widths)])


def widths_of(name: str) -> tuple[int, ...] | None:
    """The widths that a name stands for, or None if it is none of these.

    Raises RecipeError for one that is too wide or has too many weights.

    >>> widths_of("mlp-500-300"), widths_of("mlp-0500"), widths_of("mlp-0"), widths_of("mlp")
    ((500, 300), None, None, None)
    """
    if not re.fullmatch(r"mlp(-[1-9][0-9]*)+", name, re.ASCII):
        return None
    words = name.split("-")[1:]
    widest = max(words, key=lambda word: (len(word), word))
    next_step = "Use narrower layers, for example mlp-800-800."
    if len(widest) > len(str(WIDEST)) or int(widest) > WIDEST:
        raise RecipeError(f"students, {name}", f"must have layers of at most {WIDEST} units", widest, next_step)
    widths = tuple(map(int, words))
    if largest_px(widths) < SMALLEST_PX:
        between = sum(before * after for before, after in pairwise(widths))
        raise RecipeError(f"students, {name}", f"must have at most {MOST_WEIGHTS:,} weights", f"{between:,}", next_step)
    return widths


def largest_px(widths: tuple[int, ...]) -> int:
    """Side of the largest input with which the layers have no more than MOST_WEIGHTS weights, without the last one's.

    >>> largest_px((800, 800)), largest_px((8192,))
    (790, 247)
    """
    left = MOST_WEIGHTS - sum(before * after for before, after in pairwise(widths))
    return isqrt(left // widths[0]) if left > 0 else 0
