"""Reads the teacher's images from their files in batches."""

from dataclasses import dataclass

import numpy as np

from kd2mobile import pixels
from kd2mobile.data.sources.roots import Root
from kd2mobile.data.split import Sample, Split, SplitName


def in_batches(count: int, batch_size: int, start: int = 0) -> list[range]:
    """The numbers from start to count in ranges of batch_size, the last one shorter.

    >>> in_batches(5, 2)
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    return [range(first, min(first + batch_size, count)) for first in range(start, count, batch_size)]


@dataclass(frozen=True)
class TeacherImages:
    """The user's images. root: of the sample ids; resize: how an evaluated image becomes a square."""

    root: Root
    split: Split
    resize: pixels.Resize

    def samples_of(self, name: SplitName) -> list[Sample]:
        """The samples of one split, in stored order."""
        return self.split.samples_of(name)

    def labels(self, name: SplitName) -> np.ndarray:
        """The labels of one split, int [samples]."""
        return self.split.labels_of(name)

    def evaluated(self, samples: list[Sample], px: int) -> np.ndarray:
        """The evaluated view of each sample: uint8 [samples, px, px, 3]. Raises ImageError."""
        return np.stack([pixels.load(self.root / sample.path, px, self.resize) for sample in samples])

    def augmented(self, samples: list[Sample], px: int, smallest_area: float, seeds: list[list[int]]) -> np.ndarray:
        """A random box of each sample: uint8 [samples, px, px, 3]. seeds: each sample's, which decides its box."""
        rendered = []
        for sample, seed in zip(samples, seeds, strict=True):
            with pixels.opened(self.root / sample.path) as image:
                box = pixels.random_box(*image.size, self.resize, smallest_area, np.random.default_rng(seed))
                rendered.append(pixels.render(image, box, px))
        return np.stack(rendered)
