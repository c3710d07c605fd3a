"""Chooses the training images that calibrate the ranges of quantized tensors."""

from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha256
from itertools import islice
from typing import Protocol, TypeVar


class Labelled(Protocol):
    """The fields of a sample that are needed: its id and its class."""

    path: str
    label: int


Image = TypeVar("Image", bound=Labelled)


def choose_calibration(samples: Sequence[Image], count: int, seed: int) -> list[Image]:
    """`count` of the samples, or all if there are fewer, drawn class by class: one of each class, then a second, ...

    The draw depends on the paths, labels and the seed alone, not on the order of the samples, so that the same
    images come out on every machine. Classes that run out are skipped.
    """

    def draw(*of: object) -> bytes:
        return sha256("\0".join(map(str, (seed, *of))).encode("utf-8", "surrogatepass")).digest()

    by_class: dict[int, list[Image]] = defaultdict(list)
    for sample in sorted(samples, key=lambda sample: draw("picture", sample.path)):
        by_class[sample.label].append(sample)
    classes = sorted(by_class, key=lambda label: draw("class", label))
    rounds = range(max(map(len, by_class.values()), default=0))
    in_turn = (by_class[label][turn] for turn in rounds for label in classes if turn < len(by_class[label]))
    return list(islice(in_turn, count))
