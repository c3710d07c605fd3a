"""The batches of the student's training. An epoch follows from (seed, epoch), so a resumed training repeats it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kd2mobile.data.shards import Shards, open_shards
from kd2mobile.data.split import UNLABELLED
from kd2mobile.errors import TrainingError
from kd2mobile.losses.split_targets import pack_targets
from kd2mobile.metrics import top1_and_logloss

_ORDER, _VIEWS = 0, 1


def image_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the images in an epoch, each once: int [count]."""
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


def view_choice(count: int, views: int, seed: int, epoch: int) -> np.ndarray:
    """The view of each image in an epoch: int [count], from 0 to views - 1.

    Every `views` epochs, counted from epoch 0, show every view of every image once.
    """
    cycle, position = divmod(epoch, views)
    shuffled = np.random.default_rng([seed, _VIEWS, cycle]).random((count, views))
    return shuffled.argsort(axis=1)[:, position]


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """The weight of an example of each class, n / (classes * n_of_the_class): float32 [classes].

    labels: int [n]. The weights of every class have the same sum, and the mean over the n examples is 1.

    >>> class_weights(np.array([0, 0, 0, 0, 1, 2]), 3).tolist()
    [0.5, 2.0, 2.0]
    """
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (classes * np.maximum(counts, 1))).astype(np.float32)


class Feed:
    """The training images with their targets, gathered from memory-mapped shards.

    labels: int [n]. pixels_folder: the pixel store, uint8 [n, K, px, px, 3]. transfer_folder: the teacher's logits,
    float16 [n, K, classes], or None for labels alone; the soft half of the targets is then zero.
    unlabelled: pixel store and transfer set of m more images, which are mixed with the others; their one-hot half is
    zero. weighted: whether each example has the weight of its class (see `class_weights`); an unlabelled one has 1.
    Every batch is full, so that the model is traced once and batch statistics never come from a few images: the last
    batch of an epoch is filled with the epoch's first images, in their next view.
    Raises TrainingError if the stores do not hold these images, ArtifactError if a shard is missing or corrupt.
    """

    def __init__(
        self,
        labels: np.ndarray,
        classes: int,
        pixels_folder: Path,
        transfer_folder: Path | None,
        batch_size: int,
        seed: int,
        unlabelled: tuple[Path, Path] | None = None,
        weighted: bool = False,
    ):
        self.labels = np.asarray(labels, np.int64)
        self.classes, self.seed = classes, seed
        self.weights = class_weights(self.labels, classes) if weighted else None
        self.pixels: Shards | _Joined = _opened(pixels_folder, "train", len(self.labels), ())
        self.views = self.pixels.shape[1]
        self.logits: Shards | _Joined | None = None
        if transfer_folder is not None:
            self.logits = _opened(transfer_folder, "train", len(self.labels), (self.views, classes))
        if unlabelled is not None:
            self._join(*unlabelled)
        self.batch_size = min(batch_size, len(self.labels))
        self.steps = -(-len(self.labels) // self.batch_size)

    def _join(self, pixels_folder: Path, transfer_folder: Path) -> None:
        count = len(open_shards(pixels_folder, UNLABELLED))
        pixels = _opened(pixels_folder, UNLABELLED, count, self.pixels.shape[1:])
        logits = _opened(transfer_folder, UNLABELLED, count, (self.views, self.classes))
        self.pixels, self.logits = _Joined(self.pixels, pixels), _Joined(self.logits, logits)
        self.labels = np.concatenate([self.labels, np.full(count, -1)])

    def epoch(self, epoch: int) -> Iterator[tuple[np.ndarray, ...]]:
        """Batches of (uint8 [batch, px, px, 3], split targets as float32 [batch, 2 * classes], see `losses.split`).

        If weighted, each has a third array: the weights of the examples, float32 [batch].
        """
        order = image_order(len(self.labels), self.seed, epoch)
        view = view_choice(len(self.labels), self.views, self.seed, epoch)[order]
        missing = self.steps * self.batch_size - len(order)
        order = np.concatenate([order, order[:missing]])
        view = np.concatenate([view, (view[:missing] + 1) % self.views])
        for start in range(0, len(order), self.batch_size):
            rows = slice(start, start + self.batch_size)
            batch = self.pixels.take(order[rows], view[rows]), self._targets(order[rows], view[rows])
            yield batch if self.weights is None else (*batch, self._example_weights(order[rows]))

    def _targets(self, images: np.ndarray, views: np.ndarray) -> np.ndarray:
        logits = None if self.logits is None else self.logits.take(images, views)
        return pack_targets(self.labels[images], self.classes, logits)

    def _example_weights(self, images: np.ndarray) -> np.ndarray:
        labels = self.labels[images]
        return np.where(labels >= 0, self.weights[labels], np.float32(1))


class _Joined:
    """Two sets of shards as one, the second's samples after the first's."""

    def __init__(self, first: Shards, second: Shards):
        self.first, self.second = first, second

    def take(self, i: np.ndarray, k: np.ndarray) -> np.ndarray:
        """View k[j] of sample i[j] for every j, in that order, as `Shards.take`."""
        selected = np.empty((len(i), *self.first.shape[2:]), self.first.dtype)
        second = i >= len(self.first)
        selected[~second] = self.first.take(i[~second], k[~second])
        selected[second] = self.second.take(i[second] - len(self.first), k[second])
        return selected


class Evaluated:
    """The validation images, each in its one evaluated view. labels: int [m]."""

    def __init__(self, labels: np.ndarray, pixels_folder: Path):
        self.labels = np.asarray(labels, np.int64)
        self.pixels = _opened(pixels_folder, "val", len(self.labels), (1,))

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        """uint8 [batch, px, px, 3] in stored order; the last one is filled up with its own last image."""
        count = len(self.labels)
        for start in range(0, count, batch_size):
            rows = np.minimum(np.arange(start, start + batch_size), count - 1)
            yield self.pixels.take(rows, np.zeros(batch_size, np.int64))

    def scores(self, logits: np.ndarray) -> dict[str, float]:
        """val_top1 (0 to 1) and val_logloss (nats) of the softmax of the logits of the batches, in their order."""
        top1, logloss = top1_and_logloss(logits[: len(self.labels)], self.labels)
        return {"val_top1": top1, "val_logloss": logloss}


def _opened(folder: Path, name: str, count: int, inner: tuple[int, ...]) -> Shards:
    shards = open_shards(folder, name)
    needed = (count, *inner)
    if shards.shape[: len(needed)] != needed:
        raise TrainingError(
            f"{folder}, {name}",
            f"must be {list(needed)} for [images{', views' * bool(inner)}{', classes' * (len(inner) > 1)}]",
            list(shards.shape[: len(needed)]),
            "It was built from other images or views: build it again from this split.",
        )
    return shards
